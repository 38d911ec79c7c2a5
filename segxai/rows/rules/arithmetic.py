"""Rules for sums, products and choices, and for the adjoint of a broadcast."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segxai.geometry import Box
from segxai.rows.cotangent import Cotangent, on_a_box, on_box_of, rule_for
from segxai.rows.rules.reshaping import reshaped

aten = torch.ops.aten


def total(one: Cotangent, other: Cotangent) -> Cotangent:
    """Add two cotangents of the same tensor, on the box that holds both."""
    box = Box.spanning([one.box, other.box])
    large, small = (one, other) if one.box == box else (other, one)
    if large.box == box:
        return large.plus(small)
    rows = one.rows.new_zeros(*one.rows.shape[:2], *box.size)
    for part in (one, other):
        rows[part.box.seen_from(box).index] += part.rows
    return Cotangent(rows, box.start, one.shape)


@rule_for(aten.add.Tensor)
def _add(func: Any, one: Any, other: Any, *, alpha: float = 1) -> Any:
    """Add the cotangents of two paths that meet."""
    both = isinstance(one, Cotangent) and isinstance(other, Cotangent)
    if not both or one.start is None or other.start is None or alpha != 1:
        return NotImplemented
    if one.shape != other.shape:  # broadcast
        return NotImplemented
    return total(one, other)


@rule_for(aten.neg.default)
@on_a_box
def _negative(func: Any, grad: Cotangent) -> Cotangent:
    """Negate rows, for the second term of a difference."""
    return grad.like(-grad.rows)


@rule_for(aten.mul.Scalar, aten.div.Scalar, aten.div.Tensor)
@on_a_box
def _scaled(func: Any, grad: Cotangent, factor: Any) -> Any:
    """Scale by a factor, or one for each voxel; it may broadcast over channels, not over space."""
    if not isinstance(factor, Tensor):
        return grad.like(func(grad.rows, factor))
    shape = torch.broadcast_shapes(grad.shape, factor.shape)
    if (shape[0], *shape[2:]) != (1, *grad.shape[2:]):
        return NotImplemented
    return grad.like(func(grad.rows, on_box_of(grad, factor)))


@rule_for(aten.mul.Tensor)
def _product(func: Any, one: Any, other: Any) -> Any:
    """Multiply two factors, either of which may be the cotangent."""
    return _scaled(func, one, other) if isinstance(one, Cotangent) else _scaled(func, other, one)


@rule_for(aten.where.self)
def _where(func: Any, condition: Tensor, one: Any, other: Any) -> Any:
    """Set the cotangent of one choice to 0 where the other was taken."""
    grad, rest = (one, other) if isinstance(one, Cotangent) else (other, one)
    if isinstance(rest, Cotangent) or rest.ndim or rest != 0:
        return NotImplemented
    return _masked(func, grad, ~condition if grad is one else condition, 0)


@rule_for(aten.masked_fill.Scalar)
@on_a_box
def _masked(func: Any, grad: Cotangent, mask: Tensor, value: float) -> Any:
    """Set rows to 0 where the image was overwritten."""
    if value != 0 or torch.broadcast_shapes(grad.shape, mask.shape) != grad.shape:
        return NotImplemented
    return grad.like(grad.rows.masked_fill(on_box_of(grad, mask), 0))


@rule_for(aten.sum.dim_IntList)
@on_a_box
def _sum(
    func: Any, grad: Cotangent, dims: Sequence[int] | None, keep: bool = False, **more: Any
) -> Any:
    """Sum over axes, the adjoint of a broadcast."""
    axes = [axis % grad.ndim for axis in dims or ()]
    if not axes or 0 in axes or more:
        return NotImplemented
    start = (0 if axis in axes else o for axis, o in enumerate(grad.box.start, start=2))
    shape = [1 if axis in axes else n for axis, n in enumerate(grad.shape)]
    summed = Cotangent(grad.rows.sum(axes, keepdim=True), tuple(start), shape)
    if keep:
        return summed
    return reshaped(summed, [n for axis, n in enumerate(shape) if axis not in axes])


@rule_for(aten.expand.default)
@on_a_box
def _expand(func: Any, grad: Cotangent, shape: Sequence[int], **more: Any) -> Any:
    """Expand axes, the adjoint of a sum; rows that spread over all of space have no box."""
    if len(shape) != grad.ndim or shape[0] not in (1, -1):
        return NotImplemented
    shape = [n if wanted == -1 else wanted for wanted, n in zip(shape, grad.shape, strict=True)]
    sizes = zip(grad.rows.shape[1:], grad.shape[1:], shape[1:], strict=True)
    rows = grad.rows.expand(-1, *(wide if n == 1 else size for size, n, wide in sizes))
    if grad.shape[2:] != tuple(shape[2:]) and rows.shape[2:] == tuple(shape[2:]):
        return NotImplemented
    return Cotangent(rows, grad.start, shape)
