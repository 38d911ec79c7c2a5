"""Glimpses: the smallest parts of an image from which a network computes an instance's logits.

A window of 96 voxels an axis is more than a lesion's logits depend on. Where the network has a
receptive field, a part of the window around it gives the same logits, several times faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segxai.geometry import Box
from segxai.rows.cotangent import CannotCarryError, Tape
from segxai.rows.scores import cotangents
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
    with torch.no_grad():
        return _blend(glimpses, [one.logits(image) for one in glimpses])


def gradients_of_means(
    glimpses: Sequence[Glimpse],
    image: Float[Tensor, "1 channel *grid"],
    scores: Sequence[str],
    class_index: int,
) -> tuple[list[Float[Tensor, "1 channel *grid"]], Float[Tensor, "voxel class"]]:
    """Compute the gradient of each mean score over the instance's voxels, and the blended logits.

    Only one window's graph is held at a time: its logits are weighted by the derivative of the mean
    with respect to the blended ones. Those of a lone window are its own, so that it runs once.
    """
    logits = blended(glimpses, image) if len(glimpses) > 1 else torch.zeros(0)
    totals = [torch.zeros_like(image) for _ in scores]
    for one in glimpses:
        leaf = image.detach().requires_grad_()
        own = one.logits(leaf)
        if not len(logits):
            logits = _blend(glimpses, [own.detach()])
        for total, score in zip(totals, scores, strict=True):
            each = cotangents(score, logits, class_index, one.predictor.activation)
            weights = each[torch.from_numpy(one.number)] / len(logits)
            weighted = own * one.shares.to(own) * weights
            total += gradient_of(weighted.sum(), leaf, retain_graph=True)
    return totals, logits


def _blend(
    glimpses: Sequence[Glimpse], parts: Sequence[Float[Tensor, "covered class"]]
) -> Float[Tensor, "voxel class"]:
    """Add up each window's own logits, by its share."""
    count = 1 + max(int(one.number.max()) for one in glimpses)
    total = parts[0].new_zeros(count, parts[0].shape[1])
    for one, logits in zip(glimpses, parts, strict=True):
        total.index_add_(0, torch.from_numpy(one.number), logits * one.shares.to(logits))
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
