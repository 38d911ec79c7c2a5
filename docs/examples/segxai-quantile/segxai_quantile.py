"""A quantile over the rows of an instance, at every input voxel: an aggregator for segxai."""

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
    box. NaN where any row is NaN, and without rows.

    No fold can know a quantile before it has seen all rows, so this one keeps them: rows x channels
    x voxels of their common box x 4 bytes, and twice that while they are sorted. For 100 rows that
    reach 63 x 63 x 63 voxels in two channels that is 200 MB. Estimate larger instances from fewer
    rows, with `--rows`.
    """

    name: str
    level: float
    linear: bool = False  # not the mean of the rows: they must be computed one by one

    def start(self, template: Tensor) -> Kept:
        """No rows, on no box."""
        channels, *grid = template.shape
        size = torch.tensor(grid)
        return Kept(template.new_zeros(0, channels, *[0] * len(grid)), size * 0, size)

    def add(self, state: Kept, batch: RowBatch) -> Kept:
        """The rows so far and the batch's, all on the box that holds both."""
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
        """The quantile on the whole grid: 0 where no row reaches."""
        rows, channels = state.values.shape[:2]
        if rows == 0:
            return state.values.new_full((channels, *state.grid.tolist()), torch.nan)
        found = state.values.new_zeros(channels, *state.grid.tolist())
        for channel in range(channels):  # one after the other: sorting takes as much again
            found[channel][_box(state).index] = quantile(state.values[:, channel], self.level)
        return found


def quantile(values: Tensor, level: float) -> Tensor:
    """The quantile over the first axis. `torch.quantile` takes no more than 2**24 numbers."""
    ordered = values.sort(dim=0).values  # NaN comes last
    place = level * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    found = torch.lerp(ordered[below], ordered[above], place - below)
    return torch.where(ordered[-1].isnan(), torch.nan, found)


def _box(state: Kept) -> Box:
    return Box(tuple(state.start.tolist()), tuple(state.values.shape[2:]))


def _moved(values: Tensor, box: Box, target: Box) -> Tensor:
    """Rows on a larger box, 0 where they were not."""
    moved = values.new_zeros(*values.shape[:2], *target.size)
    moved[box.seen_from(target).index] = values
    return moved


@hookimpl
def segxai_aggregator(name: str) -> Aggregator | None:
    """The aggregator of this name, as in `--aggregator quantile`."""
    return Quantile(name, LEVELS[name]) if name in LEVELS else None
