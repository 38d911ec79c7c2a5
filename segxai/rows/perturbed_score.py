"""Perturbed score: the score of an instance on images that differ from one image in places."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from segxai.geometry import Box
from segxai.rows.instance_score import InstanceScore
from segxai.rows.mean_row import window_logits_at
from segxai.segment.predictor import as_predictor


class _Part(NamedTuple):
    """What a window adds to the blended logits of the voxels that it covers."""

    covered: Bool[Tensor, " voxel"]
    logits: Float[Tensor, "some class"]


class PerturbedScore(nn.Module):
    """The score of an instance, for images that differ from one image in places.

    Exactly what `InstanceScore` is, without a graph. Only windows that see both the instance and a
    difference are run: what the others add to the blended logits is kept from the image itself. So
    a method that replaces a small part of the image costs a few windows, not the whole prediction.

    Parameters
    ----------
    score : InstanceScore
        What is computed.
    image : Tensor of shape (1, channel, *grid)
        The image that is perturbed.

    Attributes
    ----------
    clean : Tensor of shape ()
        The score of the image itself.
    windows_run : int
        How many windows were run for perturbed images so far.
    """

    def __init__(self, score: InstanceScore, image: Float[Tensor, "1 channel *grid"]) -> None:
        super().__init__()
        self.predictor = as_predictor(score.model, image)
        self.weighted = score.weighted(self.predictor.domain_shape)
        self.image = image.detach()
        self.windows_run = 0
        windows = self.predictor.layout.windows
        seeing = (one for one in windows if self.predictor.covers(one, self.weighted.voxels).any())
        self._parts = {window: self._part(self.image, window) for window in seeing}
        self.clean = self._value(self._parts)

    def forward(self, images: Float[Tensor, "batch channel *grid"]) -> Float[Tensor, " batch"]:
        """Compute the score of each image of the batch, one after the other."""
        return torch.stack([self._score(one[None]) for one in images])

    def _score(self, image: Float[Tensor, "1 channel *grid"]) -> Float[Tensor, ""]:
        changed = (image != self.image).any(dim=1)[0]
        shape, parts = self.predictor.layout.shape, dict(self._parts)
        for window in parts:
            if changed[window.inside(shape).index].any():
                parts[window] = self._part(image, window)
                self.windows_run += 1
        return self._value(parts)

    def _part(self, image: Float[Tensor, "1 channel *grid"], window: Box) -> _Part:
        return _Part(*window_logits_at(self.predictor, image, window, self.weighted.voxels))

    def _value(self, parts: dict[Box, _Part]) -> Float[Tensor, ""]:
        """Blend what the windows add, and compute the score."""
        first = next(iter(parts.values())).logits
        blended = first.new_zeros(len(self.weighted.voxels), first.shape[1])
        for part in parts.values():
            blended[part.covered] += part.logits
        return self.weighted.value(blended).to(self.image)
