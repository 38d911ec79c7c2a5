"""An aggregator for segxai: a quantile over the rows of an instance, at every input voxel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from segxai import Aggregator, Box, RowBatch, hookimpl

LEVELS = {"quantile": 0.9, "median": 0.5}


@dataclass(frozen=True)
class Kept:
    """All rows so far, on the smallest box that holds their boxes.

    `values` has the shape (row, channel, *box) and `start` the box's first voxel: tensors, so that
    a run can be interrupted in the middle of an instance. `grid` is the size of the map.
    """

    values: Tensor
    start: Tensor
    grid: Tensor


@dataclass(frozen=True)
class Quantile:
    """The value that a share `level` of the rows does not exceed, at every input voxel.

    Between two rows it is interpolated linearly, as by `numpy.quantile`. A row is 0 outside of its
    box. The quantile is NaN where any row is NaN, and if there are no rows.

    No fold can know a quantile before it has seen all rows, so this one keeps them: rows x channels
    x voxels of their common box x 4 bytes, and twice that while they are sorted. For 100 rows that
    reach 63 x 63 x 63 voxels in two channels that is 200 MB. Estimate larger instances from fewer
    rows, with `--rows`.
    """

    name: str
    level: float
    linear: bool = False  # not a mean of rows, so they must be computed one by one

    def start(self, template: Tensor) -> Kept:
        """Return a state without rows, on an empty box."""
        channels, *grid = template.shape
        size = torch.tensor(grid)
        return Kept(template.new_zeros(0, channels, *[0] * len(grid)), size * 0, size)

    def add(self, state: Kept, batch: RowBatch) -> Kept:
        """Add the batch's rows to those so far, all on the box that holds both."""
        if len(state.values) == 0:
            return Kept(batch.values.clone(), torch.tensor(batch.start), state.grid)
        box = Box.spanning([_box(state), batch.box])
        values = torch.cat(
            [
                _moved(state.values, _box(state), box),
                _moved(batch.values, batch.box, box),
            ]
        )
        return Kept(values, torch.tensor(box.start), state.grid)

    def finish(self, state: Kept) -> Tensor:
        """Compute the quantile on the whole grid: 0 where no row reaches."""
        rows, channels = state.values.shape[:2]
        if rows == 0:
            return state.values.new_full((channels, *state.grid.tolist()), torch.nan)
        found = state.values.new_zeros(channels, *state.grid.tolist())
        for channel in range(channels):  # one at a time: sorting needs as much memory again
            found[channel][_box(state).index] = quantile(state.values[:, channel], self.level)
        return found


def quantile(values: Tensor, level: float) -> Tensor:
    """Compute the quantile over the first axis; `torch.quantile` is limited to 2**24 numbers."""
    ordered = values.sort(dim=0).values  # NaN comes last
    place = level * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    found = torch.lerp(ordered[below], ordered[above], place - below)
    return torch.where(ordered[-1].isnan(), torch.nan, found)


def _box(state: Kept) -> Box:
    return Box(tuple(state.start.tolist()), tuple(state.values.shape[2:]))


def _moved(values: Tensor, box: Box, target: Box) -> Tensor:
    """Pad rows with zeros to a larger box."""
    moved = values.new_zeros(*values.shape[:2], *target.size)
    moved[box.seen_from(target).index] = values
    return moved


@hookimpl
def segxai_aggregator(name: str) -> Aggregator | None:
    """Return the aggregator of this name, as in `--aggregator quantile`."""
    return Quantile(name, LEVELS[name]) if name in LEVELS else None
