"""Mirroring: test-time augmentation as part of the network, so that rows pass through it."""

from collections.abc import Iterable
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.segment.logits import logits_of


class Mirrored(nn.Module):
    """The mean of a network's logits over all mirror images of its input.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, *window) to logits of the same window.
    axes : iterable of int
        Spatial axes, counted from 0. The input is mirrored along each combination, also along none.
    output : str or int, optional
        Name or number of the tensor of logits, where the network returns several.
    """

    def __init__(
        self, network: nn.Module, axes: Iterable[int], output: str | int | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        spatial = sorted(axis + 2 for axis in axes)
        self.flips = [
            flip for count in range(len(spatial) + 1) for flip in combinations(spatial, count)
        ]

    def forward(self, image: Float[Tensor, "1 channel *window"]) -> Float[Tensor, "1 class *out"]:
        """Return the mean of the logits, each mirrored back first."""
        total = self._logits(image)
        for flip in self.flips[1:]:
            total = total + torch.flip(self._logits(torch.flip(image, flip)), flip)
        return total / len(self.flips)

    def _logits(self, image: Float[Tensor, "1 channel *window"]) -> Float[Tensor, "1 class *out"]:
        return logits_of(self.network(image), self.output)
