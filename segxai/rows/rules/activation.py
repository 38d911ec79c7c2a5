"""Rules for activations that act on each voxel alone, including softmax over the channels."""

from typing import Any

import torch
from torch import Tensor

from segxai.rows.cotangent import Cotangent, on_a_box, on_box_of, rule_for

aten = torch.ops.aten


@rule_for(aten._prelu_kernel_backward.default)
@on_a_box
def _prelu(func: Any, grad: Cotangent, image: Tensor, weight: Tensor) -> Any:
    """Apply PReLU's slope where the input is not positive; its weight needs no gradient."""
    slope = torch.where(on_box_of(grad, image) > 0, 1, weight)
    return grad.scaled(slope), torch.zeros_like(weight)


@rule_for(
    aten.leaky_relu_backward.default,
    aten.elu_backward.default,
    aten.gelu_backward.default,
    aten.silu_backward.default,
    aten.sigmoid_backward.default,
    aten.tanh_backward.default,
    aten.softplus_backward.default,
    aten.log_sigmoid_backward.default,
    aten.mish_backward.default,
    aten.rrelu_with_noise_backward.default,
)
@on_a_box
def _activation(func: Any, grad: Cotangent, *rest: Any, **more: Any) -> Cotangent:
    """Scale by the activation's slope at each voxel, which is a factor for all rows."""
    return grad.scaled(_slope(func, grad, *rest, **more))


@rule_for(
    aten.threshold_backward.default,
    aten.hardsigmoid_backward.default,
    aten.hardswish_backward.default,
    aten.hardtanh_backward.default,
    aten.hardshrink_backward.default,
    aten.softshrink_backward.default,
)
@on_a_box
def _choice(func: Any, grad: Cotangent, *rest: Any, **more: Any) -> Cotangent:
    """Scale by the slope, and choose 0 where that is flat, whatever the rows are.

    For these autograd chooses, and does not multiply: infinity times 0 would be NaN, as with a
    square root after a ReLU.
    """
    slope = _slope(func, grad, *rest, **more)
    return grad.like(grad.scaled(slope).rows.masked_fill_(slope == 0, 0))


def _slope(func: Any, grad: Cotangent, *rest: Any, **more: Any) -> Tensor:
    """Compute the activation's derivative at each voxel of the cotangent's box."""
    inner = [on_box_of(grad, one) if isinstance(one, Tensor) else one for one in rest]
    ones = torch.ones((1, grad.shape[1], *grad.box.size), dtype=grad.dtype, device=grad.device)
    slope: Tensor = func(ones, *inner, **more)
    return slope


@rule_for(
    aten._softmax_backward_data.default,
    aten._log_softmax_backward_data.default,
)
@on_a_box
def _softmax(func: Any, grad: Cotangent, output: Tensor, dim: int, dtype: torch.dtype) -> Any:
    """Apply the adjoint of softmax over the channels, which acts on each voxel alone."""
    if dim % grad.ndim != 1:
        return NotImplemented
    return grad.like(func(grad.rows, _for_each_row(grad, output), dim, dtype))


@rule_for(aten.glu_backward.default)
@on_a_box
def _glu(func: Any, grad: Cotangent, image: Tensor, dim: int) -> Any:
    """Apply the adjoint of a gated linear unit: one half of the channels gates the other."""
    if dim % grad.ndim != 1:
        return NotImplemented
    return grad.like(func(grad.rows, _for_each_row(grad, image), dim))


def _for_each_row(grad: Cotangent, other: Tensor) -> Tensor:
    """Crop a tensor to the cotangent's box, and repeat it for each row."""
    return on_box_of(grad, other).expand(len(grad.rows), *(-1,) * (grad.ndim - 1))
