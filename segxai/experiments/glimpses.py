"""Glimpses: the smallest parts of an image from which a network computes an instance's logits.

A window of 96 voxels an axis is more than a lesion's logits depend on. Where the network has a
receptive field, a part of the window around it gives the same logits, several times faster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segxai.geometry import Box
from segxai.rows.cotangent import CannotCarryError, Tape
from segxai.rows.window_pass import BLOCK, Pass, forward_pass, gradient_of
from segxai.segment.failures import NetworkError
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout

SAME_LOGIT = 1e-4  # float noise of convolutions on another size, of logits of a few units
Voxels = Int[np.ndarray, "voxel axis"]


@dataclass(frozen=True)
class Glimpse:
    """A part of an image that goes through the network, and the instance's voxels seen there.

    Parameters
    ----------
    predictor : Predictor
        Of this part as one window.
    box : Box
        The part of the image.
    voxels : ndarray of shape (voxel, axis)
        Those voxels of the instance that the window covers, counted from the box's first.
    number : ndarray of shape (voxel,)
        Which of the instance's voxels they are.
    shares : Tensor of shape (voxel, 1)
        The window's share in their blended logits.
    """

    predictor: Predictor
    box: Box
    voxels: Voxels
    number: Int[np.ndarray, " voxel"]
    shares: Float[Tensor, "voxel 1"]

    def logits(self, image: Float[Tensor, "1 channel *grid"]) -> Float[Tensor, "voxel class"]:
        """Compute the window's own logits of the voxels."""
        (window,) = self.predictor.layout.windows
        logits = self.predictor.window_logits(image[self.box.index], window)[0]
        index: Any = (slice(None), *torch.from_numpy(self.voxels.T))
        return logits[index].T.cpu()


def glimpses_of(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels
) -> list[Glimpse]:
    """Find the parts of an image that determine the logits of some voxels, one for each window.

    A part is taken only where it gives the same logits as its whole window on this image.
    """
    found = []
    for window in predictor.layout.windows:
        covered = window.contains(voxels)
        if covered.any():
            found.append(_glimpse(predictor, image, window, voxels, np.flatnonzero(covered)))
    return found


def blended(
    glimpses: Sequence[Glimpse], image: Float[Tensor, "1 channel *grid"]
) -> Float[Tensor, "voxel class"]:
    """Compute the blended logits of the instance's voxels on an image, without a graph."""
    count = 1 + max(int(one.number.max()) for one in glimpses)
    parts = []
    for one in glimpses:
        with torch.no_grad():
            logits = one.logits(image)
        weighted = logits * one.shares.to(logits)
        empty = logits.new_zeros(count, logits.shape[1])
        parts.append(empty.index_add(0, torch.from_numpy(one.number), weighted))
    return torch.stack(parts).sum(dim=0)


def gradient_of_mean(
    glimpses: Sequence[Glimpse],
    image: Float[Tensor, "1 channel *grid"],
    score: Callable[[Float[Tensor, "voxel class"]], Float[Tensor, " voxel"]],
) -> Float[Tensor, "1 channel *grid"]:
    """Compute the gradient of the mean score over the instance's voxels.

    Only one window's graph is held at a time: its logits are weighted by the derivative of the mean
    with respect to the blended ones.
    """
    logits = blended(glimpses, image).requires_grad_()
    weights = torch.autograd.grad(score(logits).mean(), logits)[0]
    total = torch.zeros_like(image)
    for one in glimpses:
        leaf = image.detach().requires_grad_()
        weighted = one.logits(leaf) * one.shares * weights[torch.from_numpy(one.number)]
        total += gradient_of(weighted.sum(), leaf)
    return total


def _glimpse(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    window: Box,
    voxels: Voxels,
    number: Int[np.ndarray, " voxel"],
) -> Glimpse:
    seen = forward_pass(predictor, image, window)
    inner, inside = voxels[number], seen.inside
    shares, expected = seen.shares(inner), seen.outputs(inner).detach().cpu()

    def part(box: Box, window: Box) -> Glimpse:
        alone = Layout(box.size, (window.seen_from(box),), torch.ones(()), torch.ones(()))
        return Glimpse(predictor.with_layout(alone), box, box.local(inner), number, shares)

    whole, box = part(inside, window), _receptive_box(seen, inner)
    if box is None or inside != window:  # a padded window stays as it is
        return whole
    small = part(box, box)
    return small if _gives(small, image, expected) else whole


def _gives(
    glimpse: Glimpse,
    image: Float[Tensor, "1 channel *grid"],
    expected: Float[Tensor, "voxel class"],
) -> bool:
    """Return whether the network takes the part, and gives it these logits."""
    try:
        with torch.no_grad():
            logits = glimpse.logits(image)
    except NetworkError:  # it takes images of other sizes only
        return False
    return torch.allclose(logits, expected, rtol=SAME_LOGIT, atol=SAME_LOGIT)


def _receptive_box(seen: Pass, voxels: Voxels) -> Box | None:
    """Find the box of the image on which logits depend, grown to whole steps of the network.

    None where it is all of the window, or is not known.
    """
    weights = torch.ones(len(voxels), seen.logits.shape[1])
    try:
        box = seen.carry(voxels, weights, Tape(), summed=True).box  # one row, whatever the domain
    except CannotCarryError:
        return None
    local, inside = box.seen_from(seen.inside), seen.inside
    start = tuple(a // BLOCK * BLOCK for a in local.start)
    stop = tuple(
        min(-(-b // BLOCK) * BLOCK, n) for b, n in zip(local.stop, inside.size, strict=True)
    )
    size = tuple(b - a for a, b in zip(start, stop, strict=True))
    if size == inside.size:
        return None
    return Box(tuple(a + b for a, b in zip(start, inside.start, strict=True)), size)
