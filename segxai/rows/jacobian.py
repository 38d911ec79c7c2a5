"""Rows: the exact gradients D_v' of an instance's scores with respect to the image.

A row is the sum, over the windows that cover v', of the window's own gradient weighted by its
share in the blend. Everything here works on a crop of the grid (`Layout.crop_to`), and computes
nothing for windows that do not cover the instance, or for the network's parameters.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.rows.batch import RowBatch
from segxai.rows.coarse_rows import combined
from segxai.rows.engines import Engine, Rows, Windowed
from segxai.rows.mean_row import logits_at, mean_row
from segxai.rows.scores import cotangents, scale_of
from segxai.rows.voxel_order import compactly
from segxai.rows.window_pass import Members, Voxels, blocks_of, forward_pass
from segxai.segment.failures import is_out_of_memory
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import Layout


def rows(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
    scales: Sequence[str] = (),
    engine: Engine | None = None,
    done: int = 0,
) -> Iterator[RowBatch]:
    """Yield all rows of an instance, in batches of nearby voxels that lie in the same windows.

    Parameters
    ----------
    predictor : Predictor
        Its layout should be cut down to the instance (`Layout.crop_to`), as all its windows run.
    image : Tensor
        The image on the layout's grid.
    voxels : ndarray of shape (voxel, axis)
        The output voxels v', on the same grid.
    class_index, score
        The class and the score of each voxel that is differentiated.
    scales : sequence of str
        Other scores, of which this one is the base (see `base_of`): batches come with what their
        rows must be multiplied by. Not for predictors with a readout.
    engine : Engine, optional
        How a window's rows are computed; windowed if not given. Exact engines give the same values
        up to rounding.
    done : int
        The number of rows to skip at the start.

    Yields
    ------
    RowBatch
        Rows on the box of the grid where they can differ from 0, on the image's device, and the
        logits of their voxels, unless there is a readout.

    Raises
    ------
    SegxaiError
        If a batch of a single row does not fit into memory.

    Notes
    -----
    The cost is one forward pass for each window and one backward pass for each pair of a voxel and
    a window that covers it. A window's graph is held from the first group of voxels that needs it
    to the last. A batch that does not fit into memory is halved.
    """
    engine = engine or Windowed()
    if predictor.readout is not None:
        options: dict[str, Any] = {"class_index": class_index, "score": score}
        yield from _read_out(predictor, predictor.readout, image, voxels, engine, done, **options)
        return
    windows = _Windows(predictor, image, voxels, class_index, score, engine)
    groups = list(_together(predictor.layout, voxels))
    last = {number: group for group, (covering, _) in enumerate(groups) for number in covering}
    at_once = engine.batch
    for group, (covering, members) in enumerate(groups):
        # `done` counts rows: batches may have been halved when the others were computed.
        members, done = members[done:], max(done - len(members), 0)
        batches = _Batches(partial(windows.rows, covering), at_once)
        for chunk, found in batches.of(members):
            logits = windows.logits[torch.from_numpy(chunk)]
            factors = {
                one: scale_of(one, logits, class_index, predictor.activation) for one in scales
            }
            yield replace(found, scales=factors, logits=logits)
        at_once = batches.at_once
        windows.forget(number for number in covering if last[number] == group)


def _read_out(
    predictor: Predictor,
    readout: Readout,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    engine: Engine,
    done: int,
    *,
    class_index: int,
    score: str,
) -> Iterator[RowBatch]:
    """Yield rows through a readout: weighted sums of coarse rows that are computed once each.

    If the score is not linear in the logits, each row takes a backward pass of its own.
    """
    if score != "logit":
        for voxel in voxels[done:]:
            row = mean_row(predictor, image, voxel[None], class_index=class_index, score=score)
            yield RowBatch(row[None], _origin(image))
        return
    cells, weights = readout.weights(voxels, class_index)
    if not len(cells):  # nothing of the network's output reaches this instance
        yield RowBatch(image.new_zeros(len(voxels) - done, *image.shape[1:]), _origin(image))
        return
    windows = _Windows(predictor.coarse_only(), image, cells, class_index, score, engine)
    batches = _Batches(partial(windows.rows, [0]), engine.batch)
    yield from combined(batches.of, cells, weights, batch=engine.batch, done=done)


def _origin(image: Float[Tensor, "1 channel *grid"]) -> tuple[int, ...]:
    return (0,) * (image.ndim - 2)


class _Batches:
    """Rows in batches; one that does not fit into memory is halved, and so are all later ones."""

    def __init__(self, compute: Callable[[Members], RowBatch], at_once: int) -> None:
        self.compute, self.at_once = compute, at_once

    def of(self, members: Members) -> Iterator[tuple[Members, RowBatch]]:
        """Yield the rows of these members, in order, with the members of each batch."""
        while len(members):
            chunk = members[: self.at_once]
            try:
                found = self.compute(chunk)
            except (RuntimeError, MemoryError) as error:
                self.at_once = _halved(len(chunk), error)
                continue
            yield chunk, found
            members = members[len(chunk) :]


class _Windows:
    """The windows of an instance, by number; each runs when its rows are first needed.

    Attributes
    ----------
    logits : Tensor of shape (voxel, class)
        Blended logits, on the CPU, of the voxels of which all windows have run.
    """

    def __init__(
        self,
        predictor: Predictor,
        image: Float[Tensor, "1 channel *grid"],
        voxels: Voxels,
        class_index: int,
        score: str,
        engine: Engine,
    ) -> None:
        self.predictor, self.image, self.voxels, self.engine = predictor, image, voxels, engine
        self.class_index, self.score = class_index, score
        # Logits are collected on the way where rows of a window depend on no other window's.
        self.collects = score == "logit" or len(predictor.layout.windows) == 1
        self.logits = torch.zeros(0) if self.collects else logits_at(predictor, image, voxels)
        self._ready: dict[int, Rows] = {}

    def rows(self, numbers: Iterable[int], members: Members) -> RowBatch:
        """Compute the rows of voxels that all of these windows cover, summed over the windows."""
        parts = []
        for number in numbers:
            if number not in self._ready:
                self._ready[number] = self._run(number)
            parts.append(self._ready[number](members))
        return _summed(parts, self.image)

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the graphs of windows that are no longer needed."""
        for number in numbers:
            self._ready.pop(number, None)

    def _run(self, number: int) -> Rows:
        window = self.predictor.layout.windows[number]
        covered = window.contains(self.voxels)
        inner, inside = self.voxels[covered], torch.from_numpy(covered)
        one = forward_pass(self.predictor, self.image, window)
        if self.collects:
            own = one.outputs(inner).detach().cpu()
            if not len(self.logits):
                self.logits = own.new_zeros(len(self.voxels), own.shape[1])
            self.logits[inside] += own * one.shares(inner).to(own)
        activation = self.predictor.activation
        weights = cotangents(self.score, self.logits[inside], self.class_index, activation)
        compute = self.engine.rows_of(one, inner, weights)
        place = np.cumsum(covered) - 1
        return lambda members: compute(place[members])


def _halved(rows: int, error: Exception) -> int:
    """Return half of a batch size that did not fit into memory; raise any other error."""
    if not is_out_of_memory(error):
        raise error
    if rows == 1:
        raise SegxaiError(
            "not enough memory for a single row; give a smaller window, or another --device"
        ) from error
    torch.cuda.empty_cache()
    return rows // 2


def _together(layout: Layout, voxels: Voxels) -> Iterator[tuple[list[int], Members]]:
    """Yield groups of nearby voxels (as indices) that the same windows cover, and the windows.

    Rows of nearby voxels have nearly the same box, and a batch is computed on the box that its rows
    span. The order does not depend on the size of a batch. The groups follow the longest axis of
    the instance, so that the groups of a window are close to each other.
    """
    cover = np.stack([window.contains(voxels) for window in layout.windows], axis=1)
    along = np.argsort(-np.ptp(voxels, axis=0), kind="stable")
    block = blocks_of(voxels, layout.windows[0])[:, along]
    found, group = np.unique(np.hstack([block, cover]), axis=0, return_inverse=True)
    for number, pattern in enumerate(found[:, block.shape[1] :]):
        members = compactly(voxels, np.flatnonzero(group.ravel() == number))
        yield np.flatnonzero(pattern).tolist(), members


def _summed(parts: list[RowBatch], image: Float[Tensor, "1 channel *grid"]) -> RowBatch:
    """Add up the rows of the same voxels in several windows, on the box that they span."""
    if len(parts) == 1:
        return RowBatch(parts[0].values.to(image), parts[0].start)
    box = Box.spanning(part.box for part in parts)
    values = image.new_zeros(*parts[0].values.shape[:2], *box.size)
    for part in parts:
        values[part.box.seen_from(box).index] += part.values.to(values)
    return RowBatch(values, box.start)
