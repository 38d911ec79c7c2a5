"""Rows: the exact gradients D_v' of an instance's scores with respect to the image.

A row is the sum, over the windows that cover v', of the window's own gradient weighted by its
share in the blend. Everything here works on a crop of the grid (`Layout.around`), computes
nothing for windows that do not cover the instance, and nothing for the network's parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segxai.protocols import RowBatch
from segxai.scores import cotangents
from segxai.segmentation import Predictor
from segxai.types import Box

Voxels = Int[np.ndarray, "voxel axis"]


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
        local = self.inside.local(voxels)
        return torch.from_numpy(np.ravel_multi_index(tuple(local.T), self.inside.size))

    def outputs(self, voxels: Voxels) -> Float[Tensor, "voxel class"]:
        """The window's own logits at grid voxels."""
        return self.logits[0].flatten(1)[:, self.index(voxels)].T

    def shares(self, voxels: Voxels) -> Float[Tensor, "voxel 1"]:
        """The window's part in the blended logits of grid voxels, on the CPU."""
        return self.share.flatten()[self.index(voxels), None]


def rows(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
    batch: int = 1,
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
    batch : int
        Rows computed at once; values do not depend on it.

    Yields
    ------
    RowBatch
        Rows on the union of the windows that can change them; 0 outside. On the image's device.

    Notes
    -----
    Costs one forward pass for each window, then one backward pass for each pair of a voxel and a
    window that covers it. The graphs of all windows are held at once.
    """
    passes = [forward_pass(predictor, image, window) for window in predictor.layout.windows]
    weights = cotangents(score, _blended(passes, voxels), class_index)
    for covering, members in _by_windows(passes, voxels):
        for chunk in np.array_split(members, -(-len(members) // batch)):
            yield _row_batch(covering, voxels[chunk], weights[chunk], image)


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
        cotangent = one.logits.new_zeros(one.logits.shape)  # contiguous: flatten is a view
        cotangent[0].flatten(1)[:, one.index(inner)] = weights.T.to(cotangent)
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


def _by_windows(
    passes: list[Pass], voxels: Voxels
) -> Iterator[tuple[list[Pass], Int[np.ndarray, " member"]]]:
    """Groups of voxels (as indices) that are covered by the same windows, with these."""
    cover = np.stack([one.window.contains(voxels) for one in passes], axis=1)
    patterns, group = np.unique(cover, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        covering = [one for one, used in zip(passes, pattern, strict=True) if used]
        yield covering, np.flatnonzero(group.ravel() == number)


def _row_batch(
    covering: list[Pass],
    voxels: Voxels,
    weights: Float[Tensor, "voxel class"],
    image: Float[Tensor, "1 channel *grid"],
) -> RowBatch:
    """Rows of some voxels: the windows' gradients, added where they overlap."""
    box = Box.spanning(one.inside for one in covering)
    if len(covering) == 1:
        return RowBatch(_window_rows(covering[0], voxels, weights).to(image), box.start)
    values = image.new_zeros(len(voxels), image.shape[1], *box.size)
    for one in covering:
        part = _window_rows(one, voxels, weights)
        values[one.inside.seen_from(box).index] += part.to(values)
    return RowBatch(values, box.start)


def _window_rows(
    one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]
) -> Float[Tensor, "voxel channel *inside"]:
    """Gradients of the weighted logits of some voxels in one window, densely."""
    weighted = (weights * one.shares(voxels)).to(one.logits)
    with torch.enable_grad():
        outputs = one.outputs(voxels)
    if len(voxels) == 1:
        (gradient,) = torch.autograd.grad(outputs, one.leaf, weighted, retain_graph=True)
        return gradient
    selector = torch.diag_embed(weighted.T).permute(1, 2, 0)  # row voxel class
    (gradients,) = torch.autograd.grad(
        outputs, one.leaf, selector, retain_graph=True, is_grads_batched=True
    )
    return gradients[:, 0]
