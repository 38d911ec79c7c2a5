"""Training patches: coins turned, scaled and mirrored, in light and sharpness of all kinds."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

PATCH_PIXELS = 128
SMALLEST_SCALE, LARGEST_SCALE = 0.7, 1.5  # of a coin, relative to the photograph
Planes = Float[Tensor, "2 y x"]  # grey values from 0 to 1, and where coins are


def patches(planes: Planes, count: int, generator: torch.Generator) -> Float[Tensor, "batch 2 _ _"]:
    """Patches of a photograph and its coins; beyond its border it is mirrored."""
    return torch.stack([_patch(planes, generator) for _ in range(count)])


def _patch(planes: Planes, generator: torch.Generator) -> Float[Tensor, "2 _ _"]:
    turned = functional.grid_sample(
        planes[None],
        _places(planes.shape[1:], generator)[None],
        padding_mode="reflection",
        align_corners=False,
    )[0]
    grey = _relit(turned[0], generator)
    return torch.stack([grey, (turned[1] > 0.5).float()])


def _places(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "y x 2"]:
    """Where a patch's pixels lie in the photograph, as `grid_sample` takes it (x, y)."""
    angle = 2 * math.pi * _uniform(generator)
    scale = SMALLEST_SCALE * (LARGEST_SCALE / SMALLEST_SCALE) ** _uniform(generator)
    mirror = 1.0 if _uniform(generator) < 0.5 else -1.0
    centre = [_uniform(generator, -1, 1), _uniform(generator, -1, 1)]
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    turn = torch.tensor([[cos, -sin], [mirror * sin, mirror * cos]])
    steps = torch.arange(PATCH_PIXELS) - (PATCH_PIXELS - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    half = torch.tensor([shape[1] / 2, shape[0] / 2])
    return torch.stack([x, y], dim=-1) @ turn.T / half + torch.tensor(centre)


def _relit(grey: Float[Tensor, "y x"], generator: torch.Generator) -> Float[Tensor, "y x"]:
    """Another curve, contrast, brightness, slope of the light, sharpness, and noise."""
    slope = torch.linspace(-1, 1, len(grey))
    lit = grey.clamp(min=0) ** math.exp(_uniform(generator, -0.4, 0.4))
    lit = lit * _uniform(generator, 0.6, 1.4) + _uniform(generator, -0.15, 0.15)
    lit = lit + slope * _uniform(generator, -0.15, 0.15)
    lit = lit + slope[:, None] * _uniform(generator, -0.15, 0.15)
    if _uniform(generator) < 0.3:
        lit = functional.avg_pool2d(lit[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    noise = torch.randn(lit.shape, generator=generator) * _uniform(generator, 0, 0.06)
    return (lit + noise).clamp(0, 1)


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
