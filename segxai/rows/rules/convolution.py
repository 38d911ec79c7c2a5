"""Rules for convolutions and transposed convolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from segxai.geometry import Box
from segxai.rows.cotangent import CHANNELS_LAST, Cotangent, clipped, nothing, on_a_box, rule_for

aten = torch.ops.aten

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}

FEW = 4  # channels of an image up to which a convolution in phases is faster


@rule_for(aten.convolution_backward.default)
@on_a_box
def _convolution(
    func: Any,
    grad: Cotangent,
    image: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Any,
    groups: int,
    mask: Sequence[bool],
) -> Any:
    """Apply the adjoint, which widens the box, or narrows it if the convolution is transposed."""
    if mask[1] or mask[2]:
        return NotImplemented
    axes = image.ndim - 2
    stride, padding, dilation = (
        tuple(each) * (axes if len(each) == 1 else 1) for each in (stride, padding, dilation)
    )
    adjoint = _narrowing if transposed else _widening
    return adjoint(grad, image.shape, weight, (stride, padding, dilation), groups), None, None


Steps = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _widening(
    grad: Cotangent, shape: Sequence[int], weight: Tensor, steps: Steps, groups: int
) -> Cotangent:
    """Apply the adjoint of a convolution.

    Output voxel o of the convolution reads inputs s o - p + d k, with k from 0 to K - 1.
    """
    stride, padding, dilation = steps
    rows = _channels_last(grad.rows)
    if weight.shape[1] <= FEW and groups == 1 and max(stride) > 1 and max(dilation) == 1:
        rows = _by_phases(rows, weight, stride)
    else:
        widen = TRANSPOSED[len(stride)]
        rows = widen(rows, weight, stride=stride, dilation=dilation, groups=groups)
    start = (s * o - p for s, o, p in zip(stride, grad.box.start, padding, strict=True))
    return clipped(rows, tuple(start), shape)


def _by_phases(rows: Tensor, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Compute a transposed convolution of stride s by a plain one that makes all s phases at once.

    Output voxel s i + p takes its taps p + s j from inputs i - j, so each phase p has a kernel of
    its own, of ceil(K / s) taps. The phases become channels of one convolution, and are then moved
    into space. With few output channels, a transposed convolution leaves most of the processor
    idle.
    """
    axes, (channels, made), kernel = len(stride), weight.shape[:2], weight.shape[2:]
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    sides = zip(taps, stride, kernel, strict=True)
    missing = [side for n, s, k in reversed([*sides]) for side in (0, n * s - k)]
    split = [size for pair in zip(taps, stride, strict=True) for size in pair]
    by_tap_and_phase = functional.pad(weight, missing).reshape(channels, made, *split)
    order = [*range(3, 3 + 2 * axes, 2), 1, 0, *range(2, 2 + 2 * axes, 2)]
    phases = by_tap_and_phase.permute(order).flip([*range(axes + 2, 2 * axes + 2)])
    phases = phases.reshape(-1, channels, *taps)
    padding = [n - 1 for n in taps]
    found = CONVOLUTIONS[axes](rows, _channels_last(phases), padding=padding)
    size = found.shape[2:]
    inner = [axis for a in range(axes) for axis in (axes + 2 + a, 1 + a)]
    found = found.view(len(rows), *stride, made, *size).permute(0, axes + 1, *inner)
    found = found.reshape(len(rows), made, *(n * s for n, s in zip(size, stride, strict=True)))
    ends = zip(rows.shape[2:], stride, kernel, strict=True)
    return found[Box.whole((n - 1) * s + k for n, s, k in ends).index]


def _channels_last(values: Tensor) -> Tensor:
    """Return the values in the memory format in which convolutions on a CPU are fastest."""
    on_cpu = values.device.type == "cpu" and values.ndim in CHANNELS_LAST
    return values.contiguous(memory_format=CHANNELS_LAST[values.ndim]) if on_cpu else values


def _narrowing(
    grad: Cotangent, shape: Sequence[int], weight: Tensor, steps: Steps, groups: int
) -> Cotangent:
    """Apply the adjoint of a transposed convolution.

    Input voxel i of the transposed convolution writes outputs s i - p + d k.
    """
    first, last, pads = [], [], []
    axes = zip(grad.box.start, grad.box.stop, weight.shape[2:], shape[2:], *steps, strict=True)
    for o, stop, kernel, limit, s, p, d in axes:
        reach = d * (kernel - 1)
        i, j = max(-((reach - o - p) // s), 0), min((stop - 1 + p) // s, limit - 1)
        if i > j:  # the stride steps over the box
            return nothing(grad.rows, shape)
        first.append(i)
        last.append(j)
        pads.append((o - (s * i - p), s * j - p + reach - (stop - 1)))
    padded = functional.pad(grad.rows, [side for pair in reversed(pads) for side in pair])
    stride, _, dilation = steps
    narrow = CONVOLUTIONS[len(stride)]
    rows = narrow(_channels_last(padded), weight, stride=stride, dilation=dilation, groups=groups)
    return Cotangent(rows, tuple(first), shape)
