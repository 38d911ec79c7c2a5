"""Rows of output voxels, as weighted sums of the rows of coarse logits."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import csr_array

from segxai.geometry import Box
from segxai.rows.batch import RowBatch
from segxai.rows.window_pass import Members


def combined(
    compute: Callable[[Members], Iterable[tuple[Members, RowBatch]]],
    cells: Int[np.ndarray, "cell axis"],
    weights: csr_array,
    *,
    batch: int,
    done: int = 0,
) -> Iterator[RowBatch]:
    """Yield rows of output voxels, from rows of coarse cells that are computed once each.

    The cells are swept along their longest axis, so that only the rows of about one cross-section
    are held at a time. The order of the output voxels does not depend on the sizes of batches.

    Parameters
    ----------
    compute : callable
        Yields the rows of some cells, given by number, in batches with their members.
    cells : ndarray of shape (cell, axis)
        The position of each cell.
    weights : sparse array of shape (voxel, cell)
        How much each cell's row contributes to an output voxel's row.
    batch : int
        The largest number of rows to make at once.
    done : int
        The number of output voxels to skip at the start.
    """
    order, ready = _sweep(cells, weights)
    voxels = np.argsort(ready, kind="stable")[done:]
    held: dict[int, RowBatch] = {}
    needed = np.zeros(len(cells), dtype=bool)
    needed[weights[voxels].indices] = True
    last = _last_use(weights, ready)
    position = 0
    while len(voxels):
        chunk = order[position : position + batch]
        for members, found in compute(chunk[needed[chunk]]):
            for number, row in zip(members.tolist(), found.values, strict=True):
                held[number] = RowBatch(row[None], found.start)
        position += len(chunk)
        now = int(np.searchsorted(ready[voxels], position))
        for first in range(0, now, batch):
            yield _sum(held, weights[voxels[first : min(first + batch, now)]])
        voxels = voxels[now:]
        held = {number: row for number, row in held.items() if last[number] >= position}


def _sweep(
    cells: Int[np.ndarray, "cell axis"], weights: csr_array
) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " voxel"]]:
    """Return the order in which cells are computed, and when each voxel has all of its cells."""
    axes = np.argsort(-np.ptp(cells, axis=0), kind="stable")
    order = np.lexsort(cells[:, axes[::-1]].T)
    place = np.empty(len(cells), dtype=np.int64)
    place[order] = np.arange(len(cells))
    ready = np.zeros(weights.shape[0], dtype=np.int64)
    voxel = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    np.maximum.at(ready, voxel, place[weights.indices])
    return order, ready


def _last_use(weights: csr_array, ready: Int[np.ndarray, " voxel"]) -> Int[np.ndarray, " cell"]:
    """Return when each cell is last needed: when the last of its voxels has all of its cells."""
    last = np.full(weights.shape[1], -1)
    voxel = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    np.maximum.at(last, weights.indices, ready[voxel])
    return last


def _sum(held: dict[int, RowBatch], weights: csr_array) -> RowBatch:
    """Compute weighted sums of held rows, on the box that these rows span."""
    used = np.unique(weights.indices)
    example = next(iter(held.values())).values
    if not len(used):  # a voxel that no logit reaches: its row is 0 everywhere
        shape = (weights.shape[0], *example.shape[1:2], *([1] * (example.ndim - 2)))
        return RowBatch(example.new_zeros(shape), (0,) * (example.ndim - 2))
    rows = [held[number] for number in used.tolist()]
    box = Box.spanning(row.box for row in rows)
    stacked = rows[0].values.new_zeros(len(rows), rows[0].values.shape[1], *box.size)
    for number, row in enumerate(rows):
        stacked[number][row.box.seen_from(box).index] = row.values[0]
    factors = torch.from_numpy(weights[:, used].toarray()).to(stacked)
    return RowBatch(torch.tensordot(factors, stacked, dims=1), box.start)
