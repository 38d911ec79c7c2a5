"""The verbs that others may implement: aggregate rows, show progress, keep a place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box


@runtime_checkable
class Progress(Protocol):
    """Shows how far a long job has come."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """A job of `total` units of work starts, or goes on after `done` of them."""
        ...

    def advance(self, amount: float) -> None:
        """So much more of it is done."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...


class Quiet:
    """The progress that shows nothing."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Nothing."""

    def advance(self, amount: float) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


State = Mapping[str, Tensor]


@runtime_checkable
class Bookmark(Protocol):
    """Keeps how far a long computation has come, for a process that goes on with it.

    What is loaded must lead to the same values as an unbroken computation, to the last bit.
    """

    def load(self) -> State:
        """What was kept last, on the CPU; empty if nothing was."""
        ...

    def keep(self, gather: Callable[[], State]) -> None:
        """Keep the state that `gather` returns, if it is time: cheap enough to call often.

        An empty state is not kept.
        """
        ...


class NoBookmark:
    """The bookmark that keeps nothing."""

    def load(self) -> State:
        """Nothing."""
        return {}

    def keep(self, gather: Callable[[], State]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class RowBatch:
    """Some rows of an instance's Jacobian, on the box where they can differ from 0.

    Parameters
    ----------
    values : Tensor of shape (row, channel, *box)
        D_v' for a few output voxels v', in score per unit of the input.
    start : tuple of int
        First voxel of the box on the grid.
    """

    values: Float[Tensor, "row channel *box"]
    start: tuple[int, ...]

    @property
    def box(self) -> Box:
        """Where the rows lie on the grid."""
        return Box(self.start, tuple(self.values.shape[2:]))


@runtime_checkable
class Aggregator(Protocol):
    """A fold over the rows of an instance: start, add batches of rows, finish.

    The result must not depend on the order of the rows or on how they are cut into batches, must
    treat what lies outside of a batch's box as 0, and must be NaN where any row is NaN. A state of
    tensors and numbers, in dataclasses, tuples or dicts, can be kept in the middle of an instance;
    with any other state, an interrupted run goes on from the last whole noisy copy.
    """

    @property
    def name(self) -> str:
        """What the command line takes."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the result is the mean of the rows.

        Then the rows need not be computed one by one: one backward pass yields their mean.
        """
        ...

    def start(self, template: Float[Tensor, "channel *grid"]) -> Any:
        """A fresh state for maps of the template's shape, type and device."""
        ...

    def add(self, state: Any, batch: RowBatch) -> Any:
        """The state after some more rows."""
        ...

    def finish(self, state: Any) -> Float[Tensor, "channel *grid"]:
        """The map."""
        ...
