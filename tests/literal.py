"""The formulas once more, slowly and word by word, for the tests to compare with."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def rows(logits: Callable[[Tensor], Tensor], image: Tensor, voxels, class_index=1) -> Tensor:
    """D_v' for each voxel, by autograd of one logit at a time: (row, channel, *grid)."""
    leaf = image.detach().clone().requires_grad_()
    output = logits(leaf)
    found = []
    for voxel in voxels:
        (row,) = torch.autograd.grad(
            output[(0, class_index, *voxel)], leaf, retain_graph=True, allow_unused=True
        )
        found.append(row[0])
    return torch.stack(found)


def mean(found: Tensor) -> Tensor:
    """The sum over the domain, divided by its number of voxels."""
    total = torch.zeros_like(found[0])
    for row in found:
        total = total + row
    return total / len(found)


def signed_max(found: Tensor) -> Tensor:
    """At each voxel the entry that has the largest magnitude."""
    best = found.abs().argmax(dim=0, keepdim=True)
    return found.gather(0, best)[0]


def ties(found: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Where the largest positive and negative entries agree to the peak times a tolerance.

    Entries so small that a flipped sign is within the tolerance are no ties.
    """
    peak = found.abs().max()
    largest, smallest = found.amax(dim=0).clamp(min=0), -found.amin(dim=0).clamp(max=0)
    nearly = (largest - smallest).abs() <= tolerance * peak
    return nearly & (largest > tolerance / 2 * peak)


def grad_cam(activations: Tensor, gradients: Tensor, *, localised: bool) -> np.ndarray:
    """Eqs. 4 to 10 for arrays (map, *layer), one voxel after the other."""
    a, g = activations.numpy().astype(float), gradients.numpy().astype(float)
    weights = np.zeros_like(a)
    for k in range(len(a)):
        for v in np.ndindex(a.shape[1:]):
            second, third = g[k][v] ** 2, g[k][v] ** 3
            denominator = 2 * second + sum(a[k][u] * third for u in np.ndindex(a.shape[1:]))
            if g[k][v] > 0 and denominator != 0:
                weights[k][v] = second / denominator * g[k][v]
    if not localised:
        weights = np.stack([np.full_like(w, w.sum()) for w in weights])
    return np.maximum((weights * a).sum(axis=0), 0)


def worst(found: Tensor | np.ndarray, wanted: Tensor | np.ndarray) -> float:
    """The largest difference, relative to the peak of what is wanted."""
    found, wanted = torch.as_tensor(np.asarray(found)), torch.as_tensor(np.asarray(wanted))
    return float((found - wanted).abs().max() / wanted.abs().max())


class Net2d(nn.Module):
    """A small 2D segmenter with a skip, pooling and batch norm; three classes."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.last = nn.Conv2d(12, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = functional.leaky_relu(self.norm(self.first(image)))
        coarse = functional.relu(self.down(fine))
        return self.last(torch.cat([fine, self.up(coarse)], dim=1))


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights of a seed, batch statistics included; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            positive = "running_var" in name or ("weight" in name and tensor.ndim == 1)
            scale = 0.3 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
            tensor.copy_(noise.abs() + 0.5 if positive else noise * scale)
    return network.eval()
