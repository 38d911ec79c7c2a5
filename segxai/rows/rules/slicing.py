"""Rules for parts of a tensor, along its channels or in space, and for concatenation."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from segxai.rows.cotangent import Cotangent, clipped, nothing, on_a_box, on_box_of, placed, rule_for
from segxai.rows.rules.arithmetic import total
from segxai.rows.rules.reshaping import reshaped

aten = torch.ops.aten


@rule_for(aten.slice.Tensor)
@on_a_box
def _slice(
    func: Any, grad: Cotangent, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """Slice, the adjoint of concatenation; keep the voxels of the slice that lie on the box."""
    axis = dim % grad.ndim
    kept = range(grad.shape[axis])[start:end:step]
    if axis == 0 or not kept:
        return NotImplemented
    shape = [*grad.shape[:axis], len(kept), *grad.shape[axis + 1 :]]
    corner = [0, *grad.box.start]
    first = corner[axis - 1]
    low = max(-((kept.start - first) // step), 0)
    high = min(-((kept.start - first - grad.rows.shape[axis]) // step), len(kept))
    if low >= high:
        return nothing(grad.rows, shape)
    corner[axis - 1] = low
    part = slice(kept[low] - first, kept[high - 1] - first + 1, step)
    return placed(grad.rows[(slice(None),) * axis + (part,)], corner, shape)


@rule_for(aten.slice_backward.default)
@on_a_box
def _slice_backward(
    func: Any, grad: Cotangent, shape: Sequence[int], dim: int, start: int, end: int, step: int
) -> Any:
    """Move the box, the adjoint of a crop; a step puts zeros in between."""
    axis = dim % grad.ndim
    kept = range(shape[axis])[start:end:step]
    if axis == 0 or not kept:
        return NotImplemented
    corner, rows = [0, *grad.box.start], grad.rows
    corner[axis - 1] = kept[corner[axis - 1]]
    if step > 1:
        size = [*rows.shape[:axis], (rows.shape[axis] - 1) * step + 1, *rows.shape[axis + 1 :]]
        rows = rows.new_zeros(size)
        rows[(slice(None),) * axis + (slice(None, None, step),)] = grad.rows
    return placed(rows, corner, shape)


@rule_for(aten.select.int)
@on_a_box
def _select(func: Any, grad: Cotangent, dim: int, index: int) -> Any:
    """Take a slice of one voxel, and drop its axis."""
    axis, shape = dim % grad.ndim, [*grad.shape]
    index %= shape.pop(axis)
    part = _slice(func, grad, axis, index, index + 1)
    return part if part is NotImplemented else reshaped(part, shape)


@rule_for(aten.select_backward.default)
@on_a_box
def _select_backward(func: Any, grad: Cotangent, shape: Sequence[int], dim: int, index: int) -> Any:
    """Put a slice back in its place, the adjoint of taking it."""
    axis = dim % len(shape)
    index %= shape[axis]
    part = reshaped(grad, [*shape[:axis], 1, *shape[axis + 1 :]])
    return _slice_backward(func, part, shape, axis, index, index + 1, 1)


@rule_for(aten.cat.default)
def _concatenate(func: Any, parts: Sequence[Tensor], dim: int = 0) -> Any:
    """Concatenate, the adjoint of splitting a tensor; parts that were not used are zeros."""
    grads = [part for part in parts if isinstance(part, Cotangent)]
    axis, shape, stop = dim % grads[0].ndim, [*grads[0].shape], 0
    shape[axis], pieces = sum(part.shape[axis] for part in parts), []
    for part in parts:
        start, stop = stop, stop + part.shape[axis]
        if isinstance(part, Cotangent):
            pieces.append(_slice_backward(func, part, shape, axis, start, stop, 1))
        elif part.any():
            return NotImplemented
    return NotImplemented if NotImplemented in pieces else reduce(total, pieces)


@rule_for(aten.flip.default)
@on_a_box
def _flip(func: Any, grad: Cotangent, dims: Sequence[int]) -> Cotangent:
    """Flip rows, and count the box from the other end."""
    axes = {axis % grad.ndim for axis in dims} - {0}
    ends = zip(grad.box.start, grad.box.stop, grad.shape[2:], strict=True)
    start = (n - b if axis in axes else a for axis, (a, b, n) in enumerate(ends, start=2))
    return Cotangent(grad.rows.flip([*axes]), tuple(start), grad.shape)


@rule_for(aten.constant_pad_nd.default)
@on_a_box
def _pad(func: Any, grad: Cotangent, pads: Sequence[int], value: float = 0) -> Any:
    """Cut off what padding with a constant added; this adjoint is padding by negative sizes."""
    axes = grad.ndim - 1
    if value != 0 or any(pads[2 * axes :]):
        return NotImplemented
    pairs = [*zip(pads[::2], pads[1::2], strict=True)][:axes]  # from the last axis to the channels
    pairs = [*[(0, 0)] * (axes - len(pairs)), *reversed(pairs)]
    rows = grad.rows
    if any(pairs[0]):
        rows = functional.pad(rows, [*[0, 0] * (axes - 1), *pairs[0]])
    start = (o + before for o, (before, _) in zip(grad.box.start, pairs[1:], strict=True))
    shape = (n + sum(pair) for n, pair in zip(grad.shape[1:], pairs, strict=True))
    return clipped(rows, tuple(start), (1, *shape))


@rule_for(aten.scatter.src)
def _scatter(func: Any, zeros: Any, dim: int, index: Tensor, source: Any) -> Any:
    """Send each value back to its channel, the adjoint of the maximum over channels."""
    if not _fills(zeros, source) or dim % source.ndim != 1:
        return NotImplemented
    rows = source.rows.new_zeros(len(source.rows), zeros.shape[1], *source.box.size)
    places = on_box_of(source, index).expand_as(source.rows)
    return Cotangent(rows.scatter(1, places, source.rows), source.start, zeros.shape)


@rule_for(aten.index_put.default)
def _index_put(
    func: Any, zeros: Any, indices: Sequence[Any], source: Any, accumulate: bool = False
) -> Any:
    """Put rows back into their channels, the adjoint of choosing channels by number."""
    chosen = [axis for axis, index in enumerate(indices) if index is not None]
    if not _fills(zeros, source) or chosen != [1] or indices[1].ndim != 1:
        return NotImplemented
    rows = source.rows.new_zeros(len(source.rows), zeros.shape[1], *source.box.size)
    rows = func(rows, indices, source.rows, accumulate)
    return Cotangent(rows, source.start, zeros.shape)


def _fills(zeros: Any, source: Any) -> bool:
    """Return whether values on a box are put into a tensor of zeros on the same grid."""
    if not isinstance(zeros, Cotangent) or not isinstance(source, Cotangent):
        return False
    if source.start is None or source.shape[0] != 1 or zeros.rows.any():
        return False
    return zeros.shape[2:] == source.shape[2:]
