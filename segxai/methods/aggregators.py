"""Aggregators: streaming folds over the rows of an instance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.methods.method import Aggregator
from segxai.plugins.hookspecs import hookimpl
from segxai.rows.batch import RowBatch


@dataclass(frozen=True)
class MeanState:
    """The sum of the rows so far, and their number."""

    total: Float[Tensor, "channel *grid"]
    count: int


@dataclass(frozen=True)
class Mean:
    """The average of the rows (Eq. 2, within one noisy copy).

    Comparable between voxels, not between instances: rows of far voxels of a large instance
    cancel or dilute each other. NaN without rows.
    """

    name: str = "mean"
    linear: bool = True

    def start(self, template: Float[Tensor, "channel *grid"]) -> MeanState:
        """Return a state with no rows."""
        return MeanState(torch.zeros_like(template), 0)

    def add(self, state: MeanState, batch: RowBatch) -> MeanState:
        """Add a batch of rows to the sum, which is changed in place."""
        state.total[batch.box.index] += batch.values.sum(dim=0)
        return MeanState(state.total, state.count + len(batch.values))

    def finish(self, state: MeanState) -> Float[Tensor, "channel *grid"]:
        """Divide the sum by the number of rows."""
        return state.total / state.count


@dataclass(frozen=True)
class Extremes:
    """The largest and the smallest entry so far, at every voxel; both start at 0."""

    largest: Float[Tensor, "channel *grid"]
    smallest: Float[Tensor, "channel *grid"]


@dataclass(frozen=True)
class SignedMax:
    """The row entry of largest magnitude, with its sign, at every input voxel (Eq. 3).

    Comparable between instances of different size. Where a positive and a negative entry tie, the
    positive one wins, so that the order of the rows cannot matter. NaN wins over every number.
    The map is 0 without rows.
    """

    name: str = "signed_max"
    linear: bool = False

    def start(self, template: Float[Tensor, "channel *grid"]) -> Extremes:
        """Return zeros: no entry is smaller in magnitude."""
        return Extremes(torch.zeros_like(template), torch.zeros_like(template))

    def add(self, state: Extremes, batch: RowBatch) -> Extremes:
        """Update the extremes with a batch; the state's tensors are changed in place."""
        largest, smallest = state.largest[batch.box.index], state.smallest[batch.box.index]
        least, most = torch.aminmax(batch.values, dim=0)
        largest.copy_(torch.maximum(largest, most))
        smallest.copy_(torch.minimum(smallest, least))
        return state

    def finish(self, state: Extremes) -> Float[Tensor, "channel *grid"]:
        """Return the extreme of larger magnitude; NaN is in both, and passes through."""
        positive = state.largest >= -state.smallest
        return torch.where(positive, state.largest, state.smallest)


BUILT_IN: dict[str, Aggregator] = {"mean": Mean(), "signed_max": SignedMax()}


@hookimpl
def segxai_aggregator(name: str) -> Aggregator | None:
    """Return the built-in aggregator of this name."""
    return BUILT_IN.get(name)
