"""The record of an attribution method, its context, and the protocol of aggregators."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from segxai.methods.options import Compute, MethodOptions, Numerics
from segxai.methods.resume_state import Bookmark, NoBookmark
from segxai.rows.batch import RowBatch
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Case, Instance


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


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method computes with, beside its options.

    Parameters
    ----------
    aggregator : Aggregator, optional
        None for methods without rows.
    noise_levels : tuple of float
        Standard deviation of the noise in each channel, in units of the network's input.
    own : Any
        The method's own options: an instance of `Method.options`, or None.
    numerics : Numerics
        How exactly the network computes.
    compute : Compute
        The engine and the batch size; no value depends on them beyond float noise.
    tick : callable
        Called with the share of the instance's work that was done since the last call. Work that
        an earlier process did is reported, too.
    bookmark : Bookmark
        Keeps the progress within an instance, for a process that continues it.
    contrast : "border" or int, optional
        What the instance's score is compared with; see `InstanceScore`.
    case : Case, optional
        The image with its grid, foreground and more; None for a bare call.
    instances : tuple of Instance
        All instances of the case, explained or not.
    """

    aggregator: Aggregator | None = None
    noise_levels: tuple[float, ...] = ()
    own: Any = None
    numerics: Numerics = field(default_factory=Numerics)
    compute: Compute = field(default_factory=Compute)
    tick: Callable[[float], None] = ignore
    bookmark: Bookmark = field(default_factory=NoBookmark)
    contrast: str | int | None = None
    case: Case | None = None
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Method:
    """An attribution method, as `segxai methods` lists it and the pipeline calls it.

    Parameters
    ----------
    name, summary : str
        Name on the command line, and one line on the result.
    attribute : callable
        Maps (predictor, image (1, channel, *grid), instance, options, context) to an Attribution;
        the options are a `MethodOptions` of a single aggregator, or none, and a single score.
    together : callable, optional
        Maps (predictor, image, instance, together, options, context) to an Attribution for each
        fold of a `Together`, whose rows are computed once.
    scope : {"instance", "class"}
        A "class" method is called once, with the instance of label 0: all voxels of the class.
    aggregator : str, optional
        The default aggregator; None where the method has no rows to aggregate.
    smooths : bool
        Whether the noise options and the seed matter.
    random : bool
        Whether values depend on the seed for other reasons than noise and sampled rows, as those of
        random masks do. It is stored with a run, and tells `segxai compare` that another seed gives
        another map.
    needs_layer : bool
        Whether `layer` matters.
    takes_contrast : bool
        Whether it explains the one number that `InstanceScore` is, and so also `context.contrast`.
    options : type, optional
        A frozen dataclass: options of the method's own, each with a default and perhaps a line of
        help (`field(default=8, metadata={"help": "..."})`). Users give them by `--set name=value`
        or `method_options={...}`.
    reference : str
        Where the method comes from.
    """

    name: str
    summary: str
    attribute: Callable[[Predictor, Tensor, Instance, MethodOptions, Context], Attribution]
    together: Callable[..., tuple[Attribution, ...]] | None = None
    scope: Literal["instance", "class"] = "instance"
    aggregator: str | None = None
    smooths: bool = False
    random: bool = False
    needs_layer: bool = False
    takes_contrast: bool = False
    options: type | None = None
    reference: str = ""


def takes_rows(aggregator: Aggregator | None) -> bool:
    """Return whether rows are computed one by one.

    The mean of all rows takes a single backward pass, as do the methods without rows.
    """
    return aggregator is not None and not aggregator.linear


def with_rows_for(aggregator: Aggregator | None, instance: Instance) -> Instance:
    """Return the instance, with all its rows where a sample would save nothing."""
    return instance if takes_rows(aggregator) else replace(instance, sampled=None)
