"""Rules for average pooling, which is linear, and max pooling, which keeps its maxima's places."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segxai.rows.cotangent import Cotangent, on_a_box, on_box_of, rule_for
from segxai.rows.rules.separable import adjoint, only

aten = torch.ops.aten

AVERAGES = {
    aten.avg_pool2d_backward.default: aten.avg_pool2d.default,
    aten.avg_pool3d_backward.default: aten.avg_pool3d.default,
}
ADAPTIVE_AVERAGES = {
    aten._adaptive_avg_pool2d_backward.default: aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d_backward.default: aten._adaptive_avg_pool3d.default,
}


@rule_for(*AVERAGES)
@on_a_box
def _average_pool(
    func: Any,
    grad: Cotangent,
    image: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_padding: bool,
    divisor: int | None,
) -> Cotangent:
    """Apply the adjoint of average pooling, axis by axis.

    The number of voxels that an average divides by is also a product over the axes.
    """
    axes = image.ndim - 2
    windows = [_each(kernel, axes), _each(stride or kernel, axes), _each(padding, axes)]
    options = (ceil_mode, count_padding, None if divisor is None else 1)
    arguments = [
        (*(only(n, axis, axes, idle) for n, idle in zip(window, (1, 1, 0), strict=True)), *options)
        for axis, window in enumerate(zip(*windows, strict=True))
    ]
    found = adjoint(grad, image.shape, AVERAGES[func], arguments)
    return found if divisor is None else found.like(found.rows / divisor)


@rule_for(*ADAPTIVE_AVERAGES)
@on_a_box
def _adaptive_average_pool(func: Any, grad: Cotangent, image: Tensor) -> Cotangent:
    """Apply the adjoint of adaptive average pooling, axis by axis.

    The windows of all output voxels tile the image, and are nearly equal in size.
    """
    axes = image.ndim - 2
    arguments = [(only(n, axis, axes, 1),) for axis, n in enumerate(grad.shape[2:])]
    return adjoint(grad, image.shape, ADAPTIVE_AVERAGES[func], arguments)


@rule_for(
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices_backward.default,
    aten.adaptive_max_pool2d_backward.default,
    aten.adaptive_max_pool3d_backward.default,
)
@on_a_box
def _max_pool(func: Any, grad: Cotangent, image: Tensor, *rest: Any) -> Cotangent:
    """Send each value back to where its window was largest; the box spans these places."""
    winners = on_box_of(grad, rest[-1]).flatten(2)
    places = torch.stack(torch.unravel_index(winners, image.shape[2:]))
    spans = places.flatten(1).aminmax(dim=1)
    start, size = spans.min.tolist(), (spans.max - spans.min + 1).tolist()
    inside = torch.zeros_like(winners)
    for place, first, n in zip(places, start, size, strict=True):
        inside = inside * n + place - first
    count, channels = grad.rows.shape[:2]
    rows = grad.rows.new_zeros(count, channels, torch.Size(size).numel())
    rows.scatter_add_(2, inside.expand(count, -1, -1), grad.rows.flatten(2))
    return Cotangent(rows.view(count, channels, *size), tuple(start), image.shape)


def _each(values: Sequence[int], axes: int) -> tuple[int, ...]:
    """Return one value for each axis; a single value is repeated for all axes."""
    return tuple(values) * (axes if len(values) == 1 else 1)
