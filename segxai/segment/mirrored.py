"""Mirroring: test-time augmentation as part of the network, so that rows pass through it."""

from collections.abc import Iterable, Iterator
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
        first, *others = self.flips
        total = self._logits(image, first)
        for flip in others:
            total = total + self._logits(image, flip)
        return total / len(self.flips)

    def members(self) -> Iterator["Mirrored"]:
        """Yield the network on each mirror image alone: the members of the ensemble."""
        for flip in self.flips:
            member = Mirrored(self.network, (), self.output)
            member.flips = [flip]
            yield member

    def _logits(
        self, image: Float[Tensor, "1 channel *window"], flip: tuple[int, ...]
    ) -> Float[Tensor, "1 class *out"]:
        """Compute the logits of a mirror image, mirrored back."""
        if not flip:
            return logits_of(self.network(image), self.output)
        return torch.flip(logits_of(self.network(torch.flip(image, flip)), self.output), flip)
