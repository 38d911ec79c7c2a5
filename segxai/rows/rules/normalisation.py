"""Rules for normalisation: frozen statistics keep rows to a box, the image's own do not.

The adjoint of a normalisation by the statistics of M voxels, y = w (x - mean) r + b, is

    r (w g - mean(w g) - x' mean(w g x'))      with x' = (x - mean) r

so the part that does not keep to the box of g consists of two fields, r and r x', that are the
same for all rows. A tape that is not exact records their coefficients instead.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from segxai.rows.cotangent import Cotangent, on_a_box, on_box_of, rule_for

aten = torch.ops.aten


@rule_for(aten.native_batch_norm_backward.default)
@on_a_box
def _batch_norm(
    func: Any,
    grad: Cotangent,
    image: Tensor,
    weight: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    saved_mean: Any,
    saved_inverse_deviation: Any,
    train: bool,
    eps: float,
    mask: Sequence[bool],
) -> Any:
    """Scale each channel if the statistics are frozen; otherwise use the image's own."""
    if mask[1] or mask[2]:
        return NotImplemented
    if train:
        own = (saved_mean, saved_inverse_deviation)
        return _own_statistics(grad, image, weight, own, image.shape[1])
    if variance is None:
        return NotImplemented
    factor = torch.rsqrt(variance + eps)
    factor = factor if weight is None else factor * weight
    return grad.scaled(_for_channels(factor, image)), None, None


@rule_for(aten.cudnn_batch_norm_backward.default)
def _cudnn_batch_norm(
    func: Any,
    image: Tensor,
    grad: Any,
    weight: Tensor,
    mean: Any,
    variance: Any,
    saved_mean: Tensor,
    saved_inverse_deviation: Tensor,
    *rest: Any,
) -> Any:
    """Apply the adjoint of instance normalisation on a GPU, with gradients of 0 for its weights."""
    own = (saved_mean, saved_inverse_deviation)
    return on_a_box(_cudnn_on_a_box)(func, grad, image, weight, own)


def _cudnn_on_a_box(func: Any, grad: Cotangent, image: Tensor, weight: Tensor, own: Any) -> Any:
    found = _own_statistics(grad, image, weight, own, image.shape[1])
    if found is NotImplemented:
        return NotImplemented
    return found[0], torch.zeros_like(weight), torch.zeros_like(weight)


@rule_for(aten.native_group_norm_backward.default)
@on_a_box
def _group_norm(
    func: Any,
    grad: Cotangent,
    image: Tensor,
    mean: Tensor,
    inverse_deviation: Tensor,
    weight: Tensor | None,
    batch: int,
    channels: int,
    size: int,
    groups: int,
    mask: Sequence[bool],
) -> Any:
    """Apply the adjoint of a normalisation by the statistics of each group of channels."""
    if mask[1] or mask[2]:
        return NotImplemented
    return _own_statistics(grad, image, weight, (mean, inverse_deviation), groups)


def _own_statistics(
    grad: Cotangent, image: Tensor, weight: Tensor | None, own: tuple[Tensor, Tensor], groups: int
) -> Any:
    """Compute the part that keeps to the box; return NotImplemented if rows must be exact."""
    left_out = grad.tape.left_out
    if left_out is None:
        return NotImplemented
    each = image.shape[1] // groups
    mean, inverse = (one.flatten().repeat_interleave(each) for one in own)
    centred = on_box_of(grad, image) - _for_channels(mean, image)
    normalised = centred * _for_channels(inverse, image)
    weighted = grad if weight is None else grad.scaled(_for_channels(weight, image))
    voxels = image[0].numel() // groups
    # Coefficients are in units of the fields' norms, sqrt(voxels) times the factor.
    unit = own[1].flatten() / sqrt(voxels)
    for part in (weighted.rows, weighted.rows * normalised):
        left_out.append(part.flatten(2).sum(2).unflatten(1, (groups, each)).sum(2) * unit)
    return weighted.scaled(_for_channels(inverse, image)), None, None


def _for_channels(values: Tensor, image: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (image.ndim - 2))
