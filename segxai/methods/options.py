"""The options of a method: what it computes, from which noise, how exactly, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from segxai.errors import SegxaiError, option, unknown_name
from segxai.types import ENGINES, PRECISIONS, SCORES

MOST_COPIES = 500  # copies, where their number follows from a tolerance


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """The noisy copies of the image.

    Parameters
    ----------
    samples : int or "auto"
        How many; "auto" adds copies until the standard error is within the tolerance.
    tolerance : float, optional
        With samples "auto": the largest standard error, relative to the map's peak. The default of
        `segxai.methods.noise` if not given.
    noise, noise_unit
        Standard deviation, and what 1 means in it (see `segxai.methods.noise.noise_levels`).
    antithetic : bool
        Whether copies come in pairs with opposite noise.

    Raises
    ------
    SegxaiError
        If a number makes no sense, or options exclude each other.
    """

    samples: int | Literal["auto"] = 50
    tolerance: float | None = None
    noise: float = 0.05
    noise_unit: str = "range"
    antithetic: bool = False

    def __post_init__(self) -> None:
        at_least("noise", self.noise, 0)
        if self.samples != "auto":
            at_least("samples", self.samples, 1)
            if self.antithetic and self.samples % 2:
                raise SegxaiError(
                    f"{option('samples', self.samples)}, {option('antithetic', True)}: copies come "
                    "in pairs; give an even number"
                )
            if self.tolerance is not None:
                raise SegxaiError(
                    f"{option('tolerance', f'{self.tolerance:g}')} belongs to "
                    f"{option('samples', 'auto')}: give that, too"
                )
        if self.tolerance is not None:
            above_zero("tolerance", self.tolerance)

    @property
    def most_copies(self) -> int:
        """The number of copies, or the largest one if it follows from the tolerance."""
        return MOST_COPIES if self.samples == "auto" else self.samples


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """What is computed.

    Parameters
    ----------
    method : str
        One of the methods that `segxai methods` lists.
    aggregator, score : tuple of str
        Each pair of them is a run of its own. Without an aggregator, the method's own default;
        scores are "logit", "margin" and "probability".
    contrast : str, optional
        Explain a difference instead of the mean score over the domain, by a method without rows:
        "border" or "class:NAME"; see `InstanceScore`.
    layer, layer_layout : str, optional
        Layer of a CAM method; the adapter's default if not given, or else chosen by a trial on the
        image. Where its output has its feature maps: see `LayerLayout.of`; else found by a trial.
    rows : int, optional
        Estimate a map from at most so many rows of its domain.
    seed : int
        Of the noise and of sampled rows.
    method_options : mapping
        The method's own options, as its dataclass has them.
    noise : NoiseOptions
        The noisy copies.
    """

    method: str = "smoothgrad"
    aggregator: tuple[str, ...] = ()
    score: tuple[str, ...] = ("logit",)
    contrast: str | None = None
    layer: str | None = None
    layer_layout: str | None = None
    rows: int | None = None
    seed: int = 0
    method_options: Mapping[str, Any] = field(default_factory=dict)
    noise: NoiseOptions = field(default_factory=NoiseOptions)

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        if self.rows is not None:
            at_least("rows", self.rows, 1)
        if not self.score:
            raise SegxaiError(f"{option('score')}: give at least one, such as logit")
        for name in self.score:
            if name not in SCORES:
                raise unknown_name("score", name, SCORES)
        for name, given in (("aggregator", self.aggregator), ("score", self.score)):
            twice = next((one for one in given if given.count(one) > 1), None)
            if twice is not None:
                raise SegxaiError(f"{option(name)}: {twice!r} is given twice")

    @property
    def only_score(self) -> str:
        """The score of a single run."""
        (score,) = self.score
        return score

    def of_pair(self, aggregator: str | None, score: str) -> "MethodOptions":
        """Return the options of a single run: one aggregator, or none, and one score."""
        return replace(self, aggregator=(aggregator,) if aggregator else (), score=(score,))


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How exactly it is computed: the only technical options that values depend on.

    Parameters
    ----------
    precision : {"float32", "tf32"}
        In which the network computes; "tf32" changes nothing on a CPU.
    row_tolerance : float, optional
        With engine "lowrank": the largest error of a row, relative to the row's peak.
    """

    precision: str = "float32"
    row_tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.row_tolerance is not None:
            above_zero("row_tolerance", self.row_tolerance)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What it is computed on. No value depends on it beyond float noise.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    engine : {"auto", "windowed", "dense", "lowrank"}
        How rows are computed; "lowrank" is an approximation to `Numerics.row_tolerance`.
    batch : int, optional
        Largest number of rows at once.
    """

    device: str = "auto"
    engine: str = "auto"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise unknown_name("engine", self.engine, ("auto", *ENGINES))
        if self.batch is not None:
            at_least("batch", self.batch, 1)


def at_least(name: str, value: float, smallest: int) -> None:
    """Raise SegxaiError unless an option is a finite number of at least so much."""
    if not smallest <= value < float("inf"):  # NaN fails, too
        raise SegxaiError(f"{option(name, value)}: give a number of {smallest} or more")


def above_zero(name: str, value: float) -> None:
    """Raise SegxaiError unless an option is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise SegxaiError(f"{option(name, value)}: give a number above 0, such as 0.03")
