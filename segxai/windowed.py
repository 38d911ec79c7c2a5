"""Windowed rows: cotangents that carry only the box in which they can differ from 0.

In a network of convolutions an output voxel sees a small part of the image, so most of a dense
backward pass multiplies zeros. A `Cotangent` looks to autograd like the dense cotangent of one
tensor of shape (1, channel, *grid); inside, it holds those of many rows at once, cropped to their
box. Each backward operation meets it in `__torch_dispatch__`: where `RULES` has a rule, the
operation is done on the box, and moves the box; anything else makes the rows dense and goes on
with them one by one. Both are exact: a rule says where zeros are, never what is small.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as trees

from segxai.errors import SegxaiError
from segxai.types import Box

aten = torch.ops.aten
Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}

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


class CannotCarryError(SegxaiError):
    """An operation that writes in place met a cotangent: only the dense way is safe."""


class Cotangent(torch.Tensor):
    """The cotangents of several rows for one dense tensor, on a box or dense themselves.

    Parameters
    ----------
    rows : Tensor of shape (row, channel, *box); if `start` is None (row, *shape)
        The values.
    start : tuple of int or None
        First voxel of the box on the grid; None for values that are dense.
    shape : sequence of int
        Of the dense tensor: (1, channel, *grid), or any shape.
    """

    rows: Tensor
    start: tuple[int, ...] | None

    @staticmethod
    def __new__(
        cls: type["Cotangent"], rows: Tensor, start: tuple[int, ...] | None, shape: Sequence[int]
    ) -> "Cotangent":
        """A tensor of the dense shape, without storage of its own."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, tuple(shape), dtype=rows.dtype, device=rows.device
        )
        made.rows, made.start = rows, start
        return made

    @property
    def box(self) -> Box:
        """Where the rows lie on the grid."""
        start = (0,) * (self.ndim - 2) if self.start is None else self.start
        return Box(start, tuple(self.rows.shape[-len(start) :]))

    def like(self, rows: Tensor) -> "Cotangent":
        """Other values, perhaps of another number of channels, on the same box."""
        return Cotangent(rows, self.start, (1, rows.shape[1], *self.shape[2:]))

    def dense(self) -> Float[Tensor, "row *shape"]:
        """All values."""
        if self.start is None:
            return self.rows
        full = self.rows.new_zeros(len(self.rows), *self.shape)
        full[:, 0][self.box.index] = self.rows
        return full

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub is of an instance method
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """The operation on the box where there is a rule for it, and densely elsewhere."""
        if func._schema.is_mutable:
            raise CannotCarryError(
                f"the network's backward pass has an operation that writes in place, {func}: "
                "the windowed engine cannot carry rows through it; take --engine dense"
            )
        rule: Rule = RULES.get(func, _no_rule)
        found = rule(func, *args, **(kwargs or {}))
        return _densely(func, args, kwargs or {}) if found is NotImplemented else found


def _no_rule(func: Any, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented


def _densely(func: Any, args: Sequence[Any], kwargs: Any) -> Any:
    """The operation on the dense cotangent of each row, one after the other."""
    flat, structure = trees.tree_flatten((args, kwargs))
    dense = [one.dense() if isinstance(one, Cotangent) else None for one in flat]
    count = next(len(rows) for rows in dense if rows is not None)
    results = []
    for row in range(count):
        picked = [one if rows is None else rows[row] for one, rows in zip(flat, dense, strict=True)]
        row_args, row_kwargs = trees.tree_unflatten(picked, structure)
        results.append(func(*row_args, **row_kwargs))
    leaves = [trees.tree_leaves(result) for result in results]
    joined = [
        Cotangent(torch.stack(values), None, values[0].shape)
        if isinstance(values[0], Tensor)
        else values[0]
        for values in zip(*leaves, strict=True)
    ]
    return trees.tree_unflatten(joined, trees.tree_structure(results[0]))


def rule_for(*operations: Any) -> Callable[[Rule], Rule]:
    """Register a rule; it may return NotImplemented to leave the work to the dense way."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def on_a_box(rule: Rule) -> Rule:
    """The rule where its first argument, and no other, is a cotangent on a box."""

    def checked(func: Any, grad: Any, *rest: Any, **more: Any) -> Any:
        if not isinstance(grad, Cotangent) or grad.start is None or grad.shape[0] != 1:
            return NotImplemented
        if any(isinstance(one, Cotangent) for one in rest):
            return NotImplemented
        return rule(func, grad, *rest, **more)

    return checked


def _clipped(rows: Tensor, start: Sequence[int], shape: Sequence[int]) -> Cotangent:
    """Rows whose box may reach outside of the grid, without what lies there."""
    box = Box(tuple(start), tuple(rows.shape[2:]))
    inside = box.inside(shape[2:])
    if min(inside.size) < 1:
        return _nothing(rows, shape)
    return Cotangent(rows[inside.seen_from(box).index], inside.start, shape)


def _nothing(rows: Tensor, shape: Sequence[int]) -> Cotangent:
    """Rows that are 0 everywhere: one voxel of zeros stands for them."""
    axes = len(shape) - 2
    return Cotangent(rows.new_zeros(len(rows), shape[1], *(1,) * axes), (0,) * axes, shape)


def _crop(grad: Cotangent, other: Any) -> Any:
    """What another tensor of the same grid holds on the cotangent's box; else as it is."""
    same_grid = isinstance(other, Tensor) and other.shape[2:] == grad.shape[2:]
    return other[grad.box.index] if same_grid else other


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
    """The adjoint of a convolution widens a box; that of a transposed one narrows it."""
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
    """Output voxel o of a convolution reads inputs s o - p + d k, with k from 0 to K - 1."""
    stride, padding, dilation = steps
    widen = TRANSPOSED[len(stride)]
    rows = widen(grad.rows, weight, stride=stride, dilation=dilation, groups=groups)
    start = (s * o - p for s, o, p in zip(stride, grad.box.start, padding, strict=True))
    return _clipped(rows, tuple(start), shape)


def _narrowing(
    grad: Cotangent, shape: Sequence[int], weight: Tensor, steps: Steps, groups: int
) -> Cotangent:
    """Input voxel i of a transposed convolution writes outputs s i - p + d k."""
    first, last, pads = [], [], []
    axes = zip(grad.box.start, grad.box.stop, weight.shape[2:], shape[2:], *steps, strict=True)
    for o, stop, kernel, limit, s, p, d in axes:
        reach = d * (kernel - 1)
        i, j = max(-((reach - o - p) // s), 0), min((stop - 1 + p) // s, limit - 1)
        if i > j:  # the stride steps over the box
            return _nothing(grad.rows, shape)
        first.append(i)
        last.append(j)
        pads.append((o - (s * i - p), s * j - p + reach - (stop - 1)))
    padded = functional.pad(grad.rows, [side for pair in reversed(pads) for side in pair])
    stride, _, dilation = steps
    narrow = CONVOLUTIONS[len(stride)]
    rows = narrow(padded, weight, stride=stride, dilation=dilation, groups=groups)
    return Cotangent(rows, tuple(first), shape)


@rule_for(aten.native_batch_norm_backward.default)
@on_a_box
def _batch_norm(
    func: Any,
    grad: Cotangent,
    image: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    saved_mean: Any,
    saved_deviation: Any,
    train: bool,
    eps: float,
    mask: Sequence[bool],
) -> Any:
    """With frozen statistics it is a factor for each channel."""
    if train or mask[1] or mask[2]:
        return NotImplemented
    scale = torch.rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    return grad.like(grad.rows * scale.view(-1, *(1,) * (image.ndim - 2))), None, None


@rule_for(aten._prelu_kernel_backward.default)
@on_a_box
def _prelu(func: Any, grad: Cotangent, image: Tensor, weight: Tensor) -> Any:
    """PReLU's slope where the input is not positive; its own gradient is never asked for."""
    rows = torch.where(_crop(grad, image) > 0, grad.rows, grad.rows * weight)
    return grad.like(rows), torch.zeros_like(weight)


@rule_for(
    aten.threshold_backward.default,
    aten.leaky_relu_backward.default,
    aten.elu_backward.default,
    aten.gelu_backward.default,
    aten.silu_backward.default,
    aten.sigmoid_backward.default,
    aten.tanh_backward.default,
    aten.hardswish_backward.default,
    aten.hardtanh_backward.default,
)
@on_a_box
def _activation(func: Any, grad: Cotangent, *rest: Any, **more: Any) -> Cotangent:
    """An activation acts on each voxel alone."""
    inner = [_crop(grad, one) for one in rest]
    same = [one.expand_as(grad.rows) if isinstance(one, Tensor) else one for one in inner]
    return grad.like(func(grad.rows, *same, **more))


@rule_for(aten.slice.Tensor)
@on_a_box
def _slice(
    func: Any, grad: Cotangent, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """Channels of a concatenation."""
    if dim % grad.ndim != 1:
        return NotImplemented
    return grad.like(grad.rows[:, slice(start, end, step)])


@rule_for(aten.slice_backward.default)
@on_a_box
def _slice_backward(
    func: Any, grad: Cotangent, sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Any:
    """The adjoint of a crop moves the box."""
    axis = dim % len(sizes) - 2
    if axis < 0 or step != 1 or start < 0:
        return NotImplemented
    moved = (o + start * (k == axis) for k, o in enumerate(grad.box.start))
    return Cotangent(grad.rows, tuple(moved), sizes)


@rule_for(aten.constant_pad_nd.default)
@on_a_box
def _pad(func: Any, grad: Cotangent, pads: Sequence[int], value: float = 0) -> Any:
    """The adjoint of padding with a constant cuts what was added: padding below 0."""
    axes = grad.ndim - 2
    if value != 0 or len(pads) > 2 * axes:
        return NotImplemented
    pairs = [*zip(pads[::2], pads[1::2], strict=True)]
    pairs = [*[(0, 0)] * (axes - len(pairs)), *reversed(pairs)]
    start = (o + before for o, (before, _) in zip(grad.box.start, pairs, strict=True))
    shape = (n + sum(pair) for n, pair in zip(grad.shape[2:], pairs, strict=True))
    return _clipped(grad.rows, tuple(start), (*grad.shape[:2], *shape))


@rule_for(aten.add.Tensor)
def _add(func: Any, one: Any, other: Any, *, alpha: float = 1) -> Any:
    """Two paths that meet: on the box that holds both."""
    both = isinstance(one, Cotangent) and isinstance(other, Cotangent)
    if not both or one.start is None or other.start is None or alpha != 1:
        return NotImplemented
    if one.shape != other.shape:  # broadcast
        return NotImplemented
    box = Box.spanning([one.box, other.box])
    total = one.rows.new_zeros(*one.rows.shape[:2], *box.size)
    for part in (one, other):
        total[part.box.seen_from(box).index] += part.rows
    return Cotangent(total, box.start, one.shape)


@rule_for(aten.detach.default, aten.alias.default, aten.clone.default)
@on_a_box
def _same(func: Any, grad: Cotangent, **more: Any) -> Cotangent:
    """Nothing changes."""
    return Cotangent(grad.rows, grad.start, grad.shape)
