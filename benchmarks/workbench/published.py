"""The published loop: signed max as the paper's scripts compute it, one voxel at a time.

Nothing is slowed down: the network's parameters need no gradients, the graph is kept, and the
arithmetic is that of the other ways.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn


def published_rows(
    network: nn.Module, image: Float[Tensor, "1 channel *grid"], voxels: Int[ndarray, "voxel axis"]
) -> Iterator[Float[Tensor, "channel *grid"]]:
    """Yield the gradient of each voxel's logit of class 1 over the patch; one forward pass."""
    leaf = image.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(leaf)
    for voxel in voxels:
        (gradient,) = torch.autograd.grad(logits[(0, 1, *voxel)], leaf, retain_graph=True)
        yield gradient[0]


def published_loop(
    network: nn.Module, image: Float[Tensor, "1 channel *grid"], voxels: Int[ndarray, "voxel axis"]
) -> Float[Tensor, "channel *grid"]:
    """Fold the rows over the whole patch: at every voxel, keep the entry of largest magnitude."""
    best = torch.zeros_like(image[0])
    for row in published_rows(network, image, voxels):
        best = torch.where(row.abs() > best.abs(), row, best)
    return best
