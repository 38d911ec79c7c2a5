"""What tests ask of a method, flat: `method(predictor, image, instance, *Asked(samples=2))`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from segxai.methods.method import Aggregator, Context, ignore
from segxai.methods.options import Compute, MethodOptions, NoiseOptions, Numerics
from segxai.methods.resume_state import Bookmark, NoBookmark


@dataclass(frozen=True)
class Asked:
    """The leaves of the options and of the context that tests set; iterates over the two."""

    aggregator: Aggregator | None = None
    samples: Any = 1
    tolerance: float | None = None
    antithetic: bool = False
    noise_levels: tuple[float, ...] = ()
    seed: int = 0
    score: str = "logit"
    layer: str | None = None
    engine: str = "auto"
    batch: int | None = None
    precision: str = "float32"
    row_tolerance: float | None = None
    tick: Callable[[float], None] = ignore
    bookmark: Bookmark = field(default_factory=NoBookmark)

    @property
    def options(self) -> MethodOptions:
        noise = NoiseOptions(
            samples=self.samples, tolerance=self.tolerance, antithetic=self.antithetic
        )
        return MethodOptions(score=(self.score,), layer=self.layer, seed=self.seed, noise=noise)

    @property
    def context(self) -> Context:
        return Context(
            aggregator=self.aggregator,
            noise_levels=self.noise_levels,
            numerics=Numerics(precision=self.precision, row_tolerance=self.row_tolerance),
            compute=Compute(engine=self.engine, batch=self.batch),
            tick=self.tick,
            bookmark=self.bookmark,
        )

    def __iter__(self) -> Iterator[Any]:
        return iter((self.options, self.context))
