"""Rows: the exact gradients D_v' of an instance's scores with respect to the image.

A row is the sum, over the windows that cover v', of the window's own gradient weighted by its
share in the blend. Everything here works on a crop of the grid (`Layout.around`), computes
nothing for windows that do not cover the instance, and nothing for the network's parameters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segxai.protocols import RowBatch
from segxai.scores import cotangents
from segxai.segmentation import Predictor
from segxai.types import Box
from segxai.windowed import CannotCarryError, Cotangent

Voxels = Int[np.ndarray, "voxel axis"]
BLOCK = 16  # voxels along an axis whose rows share a batch: the total stride of most U-Nets


@dataclass(frozen=True)
class Pass:
    """One window's forward pass with its graph, ready to be differentiated many times."""

    window: Box
    leaf: Float[Tensor, "1 channel *inside"]
    logits: Float[Tensor, "1 class *inside"]
    share: Float[Tensor, "*inside"]
    inside: Box  # the part of the window on the grid, which all arrays here cover

    def index(self, voxels: Voxels) -> Int[Tensor, " voxel"]:
        """Where grid voxels are in the pass's arrays, if these are flattened."""
        return torch.from_numpy(self.inside.flat(voxels))

    def outputs(self, voxels: Voxels) -> Float[Tensor, "voxel class"]:
        """The window's own logits at grid voxels."""
        return self.logits[0].flatten(1)[:, self.index(voxels)].T

    def shares(self, voxels: Voxels) -> Float[Tensor, "voxel 1"]:
        """The window's part in the blended logits of grid voxels, on the CPU."""
        return self.share.flatten()[self.index(voxels), None]

    def cotangent(
        self, voxels: Voxels, weights: Float[Tensor, "voxel class"]
    ) -> Float[Tensor, "1 class *inside"]:
        """What is handed to the backward pass: the weights at grid voxels, 0 elsewhere."""
        cotangent = self.logits.new_zeros(self.logits.shape)  # contiguous: flatten is a view
        cotangent[0].flatten(1)[:, self.index(voxels)] = weights.T.to(cotangent)
        return cotangent


def rows(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
    engine: str = "dense",
    batch: int = 16,
) -> Iterator[RowBatch]:
    """All rows of an instance, exact, in batches of voxels that lie in the same windows.

    Parameters
    ----------
    predictor : Predictor
        Its layout should be cut down to the instance (`Layout.around`); all its windows run.
    image : Tensor
        On the layout's grid.
    voxels : ndarray of shape (voxel, axis)
        The output voxels v', on the same grid.
    class_index, score
        Which number of each voxel is differentiated.
    engine : {"windowed", "dense"}
        How a window's rows are computed; values are the same but for float noise.
    batch : int
        Rows computed at once, at most; values do not depend on it.

    Yields
    ------
    RowBatch
        Rows on the box of the grid where they can differ from 0. On the image's device.

    Notes
    -----
    Costs one forward pass for each window, then one backward pass for each pair of a voxel and a
    window that covers it. The graphs of all windows are held at once.
    """
    compute = ENGINES[engine]
    passes = [forward_pass(predictor, image, window) for window in predictor.layout.windows]
    weights = cotangents(score, _blended(passes, voxels), class_index)
    at_once = 1 if engine == "dense" and not passes[0].logits.is_cuda else batch
    for covering, members in _together(passes, voxels):
        for chunk in np.array_split(members, -(-len(members) // at_once)):
            parts = [compute(one, voxels[chunk], weights[chunk]) for one in covering]
            yield _summed(parts, image)


def mean_row(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
) -> Float[Tensor, "channel *grid"]:
    """The mean of an instance's rows, by one backward pass a window (Eq. 2 for one copy).

    Parameters as for `rows`. Only one window's graph is held at a time.
    """
    total = torch.zeros_like(image[0])
    blended = None if score == "logit" else logits_at(predictor, image, voxels)
    for window in predictor.layout.windows:
        covered = window.contains(voxels)
        one = forward_pass(predictor, image, window)
        inner = voxels[covered]
        # The cotangent of a plain logit is the same whatever the logits: this window's will do.
        logits = one.outputs(inner) if blended is None else blended[torch.from_numpy(covered)]
        weights = cotangents(score, logits, class_index).cpu() * one.shares(inner) / len(voxels)
        cotangent = one.cotangent(inner, weights)
        (gradient,) = torch.autograd.grad(one.logits, one.leaf, cotangent)
        total[one.inside.index] += gradient[0].to(total)
    return total


def forward_pass(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], window: Box
) -> Pass:
    """One window's logits as a function of its own crop of the image."""
    inside = window.inside(predictor.layout.shape)
    leaf = image[inside.index].detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = predictor.window_logits(leaf, window)
    return Pass(window, leaf, logits, predictor.layout.share(window), inside)


def logits_at(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels
) -> Float[Tensor, "voxel class"]:
    """Blended logits of some voxels, without a graph; one window is held at a time."""
    total: Tensor | None = None
    with torch.no_grad():
        for window in predictor.layout.windows:
            part = _blended([forward_pass(predictor, image, window)], voxels)
            total = part if total is None else total + part
    return torch.zeros(0) if total is None else total


def _blended(passes: list[Pass], voxels: Voxels) -> Float[Tensor, "voxel class"]:
    """Sum over the windows of share times logits at the voxels; on the CPU, without a graph."""
    logits = torch.zeros(len(voxels), passes[0].logits.shape[1], dtype=passes[0].logits.dtype)
    for one in passes:
        covered = one.window.contains(voxels)
        values = one.outputs(voxels[covered]).detach().cpu()
        logits[torch.from_numpy(covered)] += values * one.shares(voxels[covered]).to(values)
    return logits


def _together(
    passes: list[Pass], voxels: Voxels
) -> Iterator[tuple[list[Pass], Int[np.ndarray, " member"]]]:
    """Groups of near voxels (as indices) that are covered by the same windows, with these.

    Rows of near voxels have nearly the same box: what a batch computes is the box that they span.
    """
    cover = np.stack([one.window.contains(voxels) for one in passes], axis=1)
    block = (voxels - np.asarray(passes[0].window.start)) // BLOCK
    patterns, group = np.unique(np.hstack([cover, block]), axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns[:, : len(passes)]):
        covering = [one for one, used in zip(passes, pattern, strict=True) if used]
        yield covering, np.flatnonzero(group.ravel() == number)


def _summed(parts: list[RowBatch], image: Float[Tensor, "1 channel *grid"]) -> RowBatch:
    """Rows of the same voxels in several windows, added where they overlap."""
    if len(parts) == 1:
        return RowBatch(parts[0].values.to(image), parts[0].start)
    box = Box.spanning(part.box for part in parts)
    values = image.new_zeros(*parts[0].values.shape[:2], *box.size)
    for part in parts:
        values[part.box.seen_from(box).index] += part.values.to(values)
    return RowBatch(values, box.start)


def dense_rows(one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> RowBatch:
    """Gradients of the weighted logits of some voxels in one window, on all of the window."""
    weighted = weights * one.shares(voxels)
    each = [one.cotangent(v[None], w[None]) for v, w in zip(voxels, weighted, strict=True)]
    if len(each) == 1:
        (gradients,) = torch.autograd.grad(one.logits, one.leaf, each[0], retain_graph=True)
        return RowBatch(gradients, one.inside.start)
    (gradients,) = torch.autograd.grad(
        one.logits, one.leaf, torch.stack(each), retain_graph=True, is_grads_batched=True
    )
    return RowBatch(gradients[:, 0], one.inside.start)


def windowed_rows(one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> RowBatch:
    """The same gradients, on the box where the operations let them differ from 0.

    Raises
    ------
    CannotCarryError
        If the backward pass writes in place.
    """
    gradient = _carried(one, voxels, weights)
    if gradient.start is None:
        return RowBatch(gradient.rows[:, 0], one.inside.start)
    start = zip(gradient.start, one.inside.start, strict=True)
    return RowBatch(gradient.rows, tuple(a + b for a, b in start))


def find_engine(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels
) -> str:
    """The engine that suits the network: "windowed" if a row keeps to a box all the way down.

    Costs one forward and one backward pass.
    """
    window = next(w for w in predictor.layout.windows if w.contains(voxels).any())
    first = voxels[window.contains(voxels)][:1]
    one = forward_pass(predictor, image, window)
    try:
        gradient = _carried(one, first, torch.ones(1, one.logits.shape[1]))
    except CannotCarryError:
        return "dense"
    return "dense" if gradient.start is None else "windowed"


def _carried(one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> Cotangent:
    """The cotangents of some voxels, carried through a window's backward pass."""
    local, weighted = one.inside.local(voxels), weights * one.shares(voxels)
    start = local.min(axis=0)
    size = local.max(axis=0) - start + 1
    values = one.logits.new_zeros(len(voxels), one.logits.shape[1], *size)
    row = torch.arange(len(voxels))
    values[row, :, *torch.from_numpy(local - start).T] = weighted.to(values)
    cotangent = Cotangent(values, tuple(start.tolist()), one.logits.shape)
    (gradient,) = torch.autograd.grad(one.logits, one.leaf, cotangent, retain_graph=True)
    return cast(Cotangent, gradient)


ENGINES: dict[str, Callable[[Pass, Voxels, Float[Tensor, "voxel class"]], RowBatch]] = {
    "windowed": windowed_rows,
    "dense": dense_rows,
}
