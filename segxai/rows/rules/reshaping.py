"""Rules for operations that return the same values in another shape, order or type."""

from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import Any

import torch
from torch.nn import functional

from segxai.rows.cotangent import Cotangent, nothing, on_a_box, placed, rule_for

aten = torch.ops.aten


def reshaped(grad: Cotangent, shape: Sequence[int]) -> Any:
    """Return the cotangent of a tensor in another shape.

    Where an axis is split, its box grows to whole blocks. Where axes are merged, the box grows to
    the whole of all but the first of them. The result is NotImplemented if the first axis, which
    has size 1, is merged with others.
    """
    if shape[0] != 1 or len(shape) < 3 or 0 in shape:
        return NotImplemented
    old, new = grad.shape[1:], tuple(shape[1:])
    first, stop = (0, *grad.box.start), (old[0], *grad.box.stop)
    pads = [(0, 0)] * len(old)
    start, size = [0] * len(new), [1] * len(new)
    for (lead, *others), (head, *tail) in _groups(old, new):
        block, unit = prod(old[axis] for axis in others), prod(new[axis] for axis in tail)
        step = unit // gcd(block, unit)
        low, high = first[lead] // step * step, -(-stop[lead] // step) * step
        pads[lead] = (first[lead] - low, high - stop[lead])
        for axis in others:
            pads[axis] = (first[axis], old[axis] - stop[axis])
        start[head], size[head] = low * block // unit, (high - low) * block // unit
        for axis in tail:
            size[axis] = new[axis]
    rows = functional.pad(grad.rows, [side for pair in reversed(pads) for side in pair])
    return placed(rows.reshape(len(rows), *size), start, shape)


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest groups of axes with the same values in both; axes of size 1 have none."""
    left, right = ([axis for axis, n in enumerate(shape) if n != 1] for shape in (old, new))
    while left:
        ours, theirs = [left.pop(0)], [right.pop(0)]
        while (a := prod(old[axis] for axis in ours)) != (b := prod(new[axis] for axis in theirs)):
            (ours if a < b else theirs).append((left if a < b else right).pop(0))
        yield ours, theirs


@rule_for(
    aten.view.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)
@on_a_box
def _reshape(func: Any, grad: Cotangent, *rest: Any) -> Any:
    """Return the cotangent in the shape that the operation gives a tensor without values."""
    return reshaped(grad, func(torch.empty(grad.shape, device="meta"), *rest).shape)


@rule_for(aten.permute.default)
@on_a_box
def _permute(func: Any, grad: Cotangent, order: Sequence[int]) -> Any:
    """Put axes in another order; the first, which has size 1, must stay in place."""
    order = [axis % grad.ndim for axis in order]
    if order[0] != 0:
        return NotImplemented
    first = (0, 0, *grad.box.start)
    start, shape = [first[axis] for axis in order[1:]], [grad.shape[axis] for axis in order]
    return placed(grad.rows.permute(order), start, shape)


@rule_for(aten.transpose.int)
@on_a_box
def _transpose(func: Any, grad: Cotangent, one: int, other: int) -> Any:
    """Swap two axes."""
    order = [*range(grad.ndim)]
    order[one], order[other] = order[other], order[one]
    return _permute(func, grad, order)


@rule_for(aten.pixel_unshuffle.default)
@on_a_box
def _pixel_unshuffle(func: Any, grad: Cotangent, factor: int) -> Any:
    """Move blocks of voxels into channels, the adjoint of moving channels into space."""
    _, channels, *grid = grad.shape
    height, width = (n // factor for n in grid)
    apart = reshaped(grad, (1, channels, height, factor, width, factor))
    moved = _permute(func, apart, (0, 1, 3, 5, 2, 4))
    return reshaped(moved, (1, channels * factor**2, height, width))


@rule_for(aten.pixel_shuffle.default)
@on_a_box
def _pixel_shuffle(func: Any, grad: Cotangent, factor: int) -> Any:
    """Move channels into blocks of voxels, the adjoint of moving such blocks into channels."""
    _, channels, height, width = grad.shape
    apart = reshaped(grad, (1, channels // factor**2, factor, factor, height, width))
    moved = _permute(func, apart, (0, 1, 4, 2, 5, 3))
    return reshaped(moved, (1, channels // factor**2, height * factor, width * factor))


@rule_for(aten._to_copy.default)
@on_a_box
def _cast(func: Any, grad: Cotangent, **more: Any) -> Cotangent:
    """Convert rows to another type of number."""
    return grad.like(func(grad.rows, **more))


@rule_for(aten.new_zeros.default)
@on_a_box
def _new_zeros(func: Any, grad: Cotangent, shape: Sequence[int], **more: Any) -> Any:
    """Make zeros that a later operation fills."""
    if shape[0] != 1 or len(shape) < 3 or more.get("dtype", grad.dtype) != grad.dtype:
        return NotImplemented
    return nothing(grad.rows, shape)


@rule_for(aten.detach.default, aten.alias.default, aten.clone.default)
@on_a_box
def _same(func: Any, grad: Cotangent, **more: Any) -> Cotangent:
    """Return the same values, since nothing changes."""
    return grad.same()
