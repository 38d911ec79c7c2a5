"""The coefficients of Grad-CAM++ and the heat that they give, for the features of one window."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_DENOMINATOR = 1e-6


@dataclass(frozen=True)
class Weights:
    """The coefficients alpha^k[v] of Eq. 7, and how often their denominator is not positive.

    `suspect` is the share of the voxels with a positive gradient whose denominator is 0 or below.
    """

    alpha: Float[Tensor, "1 map *layer"]
    suspect: float


def grad_cam_weights(
    activations: Float[Tensor, "1 map *layer"], gradients: Float[Tensor, "1 map *layer"]
) -> Weights:
    """Compute the coefficients of Eq. 7 with an exponential link.

    With d2y' = g^2 and d3y' = g^3 they are 1 / (2 + sum(A^k) g^k[v]) where g > 0; elsewhere
    ReLU(g) makes them irrelevant, and they are 0. Where the denominator's magnitude is below 1e-6
    they are 0; where it is negative they are kept as they are.
    """
    axes = tuple(range(2, activations.ndim))
    denominator = 2 + activations.sum(dim=axes, keepdim=True) * gradients
    used = gradients > 0
    finite = used & (denominator.abs() >= SMALLEST_DENOMINATOR)
    alpha = torch.where(finite, 1 / torch.where(finite, denominator, 1), 0)
    suspect = float((used & (denominator <= 0)).sum() / used.sum().clamp(min=1))
    return Weights(alpha, suspect)


@dataclass(frozen=True)
class Heat:
    """The heat map of one window, and the share of its suspect coefficients."""

    values: Float[Tensor, "1 1 *layer"]
    suspect: float


def heat_of(
    activations: Float[Tensor, "1 map *layer"],
    gradients: Float[Tensor, "1 map *layer"],
    *,
    localised: bool,
) -> Heat:
    """Compute the ReLU of the weighted sum of the feature maps (Eq. 4, or Eq. 8 if localised)."""
    coefficients = grad_cam_weights(activations, gradients)
    weights = coefficients.alpha * gradients.relu()
    if not localised:
        weights = weights.sum(dim=tuple(range(2, weights.ndim)), keepdim=True)
    values = (weights * activations).sum(dim=1, keepdim=True).relu()
    return Heat(values, coefficients.suspect)
