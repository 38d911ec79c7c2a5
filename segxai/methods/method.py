"""The record of an attribution method, its settings, and the protocol of aggregators."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from segxai.methods.resume_state import Bookmark, NoBookmark
from segxai.rows.batch import RowBatch
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Instance


@runtime_checkable
class Aggregator(Protocol):
    """A fold over the rows of an instance: start, add batches of rows, finish.

    The result must not depend on the order of the rows or on how they are cut into batches, must
    treat what lies outside of a batch's box as 0, and must be NaN where any row is NaN. A state of
    tensors and numbers, in dataclasses, tuples or dicts, can be kept in the middle of an instance;
    with any other state, an interrupted run continues from the last complete noisy copy.
    """

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the result is the mean of the rows.

        Then the rows need not be computed one by one: one backward pass yields their mean.
        """
        ...

    def start(self, template: Float[Tensor, "channel *grid"]) -> Any:
        """Return a fresh state for maps of the template's shape, type and device."""
        ...

    def add(self, state: Any, batch: RowBatch) -> Any:
        """Return the state after a batch of rows."""
        ...

    def finish(self, state: Any) -> Float[Tensor, "channel *grid"]:
        """Return the map."""
        ...


def ignore(share: float) -> None:
    """No-op progress callback."""


@dataclass(frozen=True)
class Settings:
    """The settings of a method.

    Parameters
    ----------
    aggregator : Aggregator, optional
        None for methods without rows.
    samples : int or "auto"
        Number N of noisy copies; "auto": as many as the tolerance requires.
    tolerance : float, optional
        With samples "auto": the standard error at which to stop, relative to the map's peak.
        With engine "lowrank": the largest error of a row, relative to the row's peak.
    antithetic : bool
        Whether noisy copies come in pairs with opposite noise.
    noise_levels : tuple of float
        Standard deviation of the noise in each channel, in units of the network's input.
    seed : int
        Copy n of channel c is drawn from (seed, n, c).
    score : str
        "logit", "margin" or "probability".
    layer : str, optional
        Name of the layer of a CAM method, as in `network.named_modules()`.
    engine : {"auto", "windowed", "dense", "lowrank"}
        How rows are computed. Only speed depends on it, except that "lowrank" is an approximation.
    batch : int, optional
        Largest number of rows computed at once: affects memory, never values.
    precision : {"float32", "tf32", "bfloat16"}
        In which the network computes.
    tick : callable
        Called with the share of the instance's work that was done since the last call. Work that
        an earlier process did is reported, too.
    bookmark : Bookmark
        Keeps the progress within an instance, for a process that continues it.
    """

    aggregator: Aggregator | None = None
    samples: int | Literal["auto"] = 1
    tolerance: float | None = None
    antithetic: bool = False
    noise_levels: tuple[float, ...] = ()
    seed: int = 0
    score: str = "logit"
    layer: str | None = None
    engine: str = "auto"
    batch: int | None = None
    precision: str = "float32"
    tick: Callable[[float], None] = ignore
    bookmark: Bookmark = field(default_factory=NoBookmark)


@dataclass(frozen=True)
class Method:
    """An attribution method, as `segxai methods` lists it and the pipeline calls it.

    Parameters
    ----------
    name, summary : str
        Name on the command line, and one line on the result.
    attribute : callable
        Maps (predictor, image (1, channel, *grid), instance, settings) to an Attribution.
    scope : {"instance", "class"}
        A "class" method is called once, with the instance of label 0: all voxels of the class.
    aggregator : str, optional
        The default aggregator; None where the method has no rows to aggregate.
    smooths : bool
        Whether `samples`, `noise` and `seed` matter.
    needs_layer : bool
        Whether `layer` matters.
    reference : str
        Where the method comes from.
    """

    name: str
    summary: str
    attribute: Callable[[Predictor, Tensor, Instance, Settings], Attribution]
    scope: Literal["instance", "class"] = "instance"
    aggregator: str | None = None
    smooths: bool = False
    needs_layer: bool = False
    reference: str = ""


def takes_rows(aggregator: Aggregator | None) -> bool:
    """Return whether rows are computed one by one.

    The mean of all rows takes a single backward pass, as do the methods without rows.
    """
    return aggregator is not None and not aggregator.linear


def with_rows_for(aggregator: Aggregator | None, instance: Instance) -> Instance:
    """Return the instance, with all its rows where a sample would save nothing."""
    return instance if takes_rows(aggregator) else replace(instance, sampled=None)
