"""Windowed rows: cotangents that carry only the box in which they can differ from 0.

In a network of convolutions an output voxel sees a small part of the image, so most of a dense
backward pass multiplies zeros. To autograd, a `Cotangent` looks like the dense cotangent of one
tensor of shape (1, channel, *grid). Inside, it holds the cotangents of many rows at once, cropped
to their box. Each backward operation meets it in `__torch_dispatch__`. If `RULES` has a rule for
the operation, it is done on the box, and moves the box. Otherwise the rows become dense, and the
pass continues with them one by one. Both ways are exact: a rule says where values are zero, never
which are small.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as trees

from segxai.errors import SegxaiError
from segxai.geometry import Box

BackwardRule = Callable[..., Any]
RULES: dict[Any, BackwardRule] = {}
# By number of axes: the memory format in which convolutions on a CPU are fastest.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class CannotCarryError(SegxaiError):
    """An error for an operation that writes in place, for which only the dense way is safe."""


class Tape:
    """A record of how rows are carried; all cotangents of a backward pass share one.

    Attributes
    ----------
    largest : int
        Bytes of the largest tensor of rows.
    densified : list of str
        Operations that had no rule for their arguments, in the order of the backward pass.
    left_out : list of Tensor of shape (row, coefficient), optional
        None if rows are exact. Otherwise, rules may leave out a part of an operation that is a
        sum of fields that do not depend on the row, and append the fields' coefficients.
    """

    def __init__(self, *, exact: bool = True) -> None:
        self.largest = 0
        self.densified: list[str] = []
        self.left_out: list[Float[Tensor, "row coefficient"]] | None = None if exact else []

    def follow(self, cotangent: "Cotangent") -> None:
        """Keep track of a cotangent that an operation returned."""
        cotangent.tape = self
        self.largest = max(self.largest, cotangent.bytes_of_rows)


class Cotangent(torch.Tensor):
    """The cotangents of several rows for one dense tensor, on a box or dense themselves.

    Parameters
    ----------
    rows : Tensor of shape (row, channel, *box), or (row, *shape) if `start` is None
        The values.
    start : tuple of int or None
        First voxel of the box on the grid; None if the values are dense.
    shape : sequence of int
        Shape of the dense tensor: (1, channel, *grid), or any other shape.
    """

    start: tuple[int, ...] | None
    tape: "Tape"
    _rows: Tensor
    _factor: Tensor | None  # by which `_rows` still has to be multiplied
    _parts: tuple["Cotangent", ...]  # then still to be added, on boxes inside this one

    @staticmethod
    def __new__(
        cls: type["Cotangent"], rows: Tensor, start: tuple[int, ...] | None, shape: Sequence[int]
    ) -> "Cotangent":
        """Create a tensor of the dense shape, without storage of its own."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, tuple(shape), dtype=rows.dtype, device=rows.device
        )
        made._rows, made._factor, made._parts = rows, None, ()
        made.start, made.tape = start, Tape()
        return made

    @property
    def rows(self) -> Tensor:
        """The values, of shape (row, channel, *box), or (row, *shape) if dense."""
        if self._factor is not None or self._parts:
            values = self._rows.clone() if self._factor is None else self._rows * self._in_order()
            for part in self._parts:
                values[part.box.seen_from(self.box).index] += part.rows
            self._rows, self._factor, self._parts = values, None, ()
        return self._rows

    def _in_order(self) -> Tensor:
        """Return the factor in the memory format of the rows."""
        factor = cast(Tensor, self._factor).to(self._rows.dtype)
        if self._rows.stride(1) == 1 and factor.ndim in CHANNELS_LAST:
            return factor.contiguous(memory_format=CHANNELS_LAST[factor.ndim])
        return factor

    def scaled(self, factor: Float[Tensor, "1 #channel *#box"]) -> "Cotangent":
        """Return the product with a factor shared by all rows; several are merged into one."""
        made = self.same()
        made._factor = factor if self._factor is None else self._factor * factor
        made._parts = tuple(
            part.scaled(_crop(factor, part.box.seen_from(self.box))) for part in self._parts
        )
        return made

    def plus(self, part: "Cotangent") -> "Cotangent":
        """Return the sum with a cotangent of the same tensor, whose box lies inside this one's."""
        made = self.same()
        made._parts = (*self._parts, part)
        return made

    @property
    def box(self) -> Box:
        """The box of the rows on the grid."""
        start = (0,) * (self.ndim - 2) if self.start is None else self.start
        return Box(start, tuple(self._rows.shape[-len(start) :]))

    @property
    def bytes_of_rows(self) -> int:
        """The memory that the values take, in bytes."""
        return self._rows.nbytes

    def same(self) -> "Cotangent":
        """Return another cotangent with the same values."""
        made = Cotangent(self._rows, self.start, self.shape)
        made._factor, made._parts = self._factor, self._parts
        return made

    def like(self, rows: Tensor) -> "Cotangent":
        """Return a cotangent with other values on the same box, in any number of channels."""
        return Cotangent(rows, self.start, (1, rows.shape[1], *self.shape[2:]))

    def dense(self) -> Float[Tensor, "row *shape"]:
        """Return the values of all rows on the whole dense shape."""
        if self.start is None:
            return self.rows
        full = self.rows.new_zeros(len(self.rows), *self.shape)
        full[:, 0][self.box.index] = self.rows
        return full

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub declares an instance method
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on the box if there is a rule for it, and densely otherwise."""
        if func._schema.is_mutable:
            raise CannotCarryError(
                f"the network's backward pass has an operation that writes in place, {func}: "
                "the windowed engine cannot carry rows through it; use --engine dense"
            )
        rule: BackwardRule = RULES.get(func, _no_rule)
        found = rule(func, *args, **(kwargs or {}))
        tape = next(_cotangents([args, list((kwargs or {}).values())])).tape
        if found is NotImplemented:
            tape.densified.append(str(func))
            found = _densely(func, args, kwargs or {})
        for one in _cotangents([found]):
            tape.follow(one)
        return found


def _cotangents(values: Iterable[Any]) -> Iterator[Cotangent]:
    """Yield the cotangents among values and in their lists; torch's own way takes far longer."""
    for one in values:
        if isinstance(one, Cotangent):
            yield one
        elif isinstance(one, list | tuple):
            yield from _cotangents(one)


def _crop(factor: Tensor, box: Box) -> Tensor:
    """Crop a factor to a box, except along axes where it has a single value."""
    sides = zip(factor.shape[2:], box.index[1:], strict=True)
    return factor[(..., *(slice(None) if n == 1 else side for n, side in sides))]


# Our dense cotangents may differ from autograd's in memory layout, and then have no such view.
RESHAPES = {
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default: torch.ops.aten.reshape.default,
}


def _no_rule(func: Any, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented


def _densely(func: Any, args: Sequence[Any], kwargs: Any) -> Any:
    """Run an operation on the dense cotangent of each row, one after the other."""
    flat, structure = trees.tree_flatten((args, kwargs))
    dense = [one.dense() if isinstance(one, Cotangent) else None for one in flat]
    count = next(len(rows) for rows in dense if rows is not None)
    results = []
    for row in range(count):
        picked = [one if rows is None else rows[row] for one, rows in zip(flat, dense, strict=True)]
        row_args, row_kwargs = trees.tree_unflatten(picked, structure)
        results.append(RESHAPES.get(func, func)(*row_args, **row_kwargs))
    leaves = [trees.tree_leaves(result) for result in results]
    joined = [
        Cotangent(torch.stack(values) if count > 1 else values[0][None], None, values[0].shape)
        if isinstance(values[0], Tensor)
        else values[0]
        for values in zip(*leaves, strict=True)
    ]
    return trees.tree_unflatten(joined, trees.tree_structure(results[0]))


def rule_for(*operations: Any) -> Callable[[BackwardRule], BackwardRule]:
    """Register a rule for operations; a call where it returns NotImplemented is done densely."""

    def register(rule: BackwardRule) -> BackwardRule:
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def on_a_box(rule: BackwardRule) -> BackwardRule:
    """Apply a rule only if its first argument, and no other, is a cotangent on a box."""

    def checked(func: Any, grad: Any, *rest: Any, **more: Any) -> Any:
        if not isinstance(grad, Cotangent) or grad.start is None or grad.shape[0] != 1:
            return NotImplemented
        if any(isinstance(one, Cotangent) for one in rest):
            return NotImplemented
        return rule(func, grad, *rest, **more)

    return checked


def clipped(rows: Tensor, start: Sequence[int], shape: Sequence[int]) -> Cotangent:
    """Clip rows to the grid, if their box reaches outside it."""
    box = Box(tuple(start), tuple(rows.shape[2:]))
    inside = box.inside(shape[2:])
    if min(inside.size) < 1:
        return nothing(rows, shape)
    return Cotangent(rows[inside.seen_from(box).index], inside.start, shape)


def nothing(rows: Tensor, shape: Sequence[int]) -> Cotangent:
    """Make rows that are 0 everywhere; one voxel of zeros stands for them."""
    axes = len(shape) - 2
    return Cotangent(rows.new_zeros(len(rows), shape[1], *(1,) * axes), (0,) * axes, shape)


def placed(rows: Tensor, start: Sequence[int], shape: Sequence[int]) -> Cotangent:
    """Place rows at a channel and voxel, `start`; fill the other channels with 0."""
    first, *inner = start
    behind = shape[1] - first - rows.shape[1]
    if first or behind:
        rows = functional.pad(rows, [0, 0] * (rows.ndim - 2) + [first, behind])
    return Cotangent(rows, tuple(inner), shape)


def on_box_of(grad: Cotangent, other: Tensor) -> Tensor:
    """Crop a tensor that broadcasts with the dense cotangent to the cotangent's box."""
    index = [slice(None)] * other.ndim
    for axis, (first, stop) in enumerate(zip(grad.box.start, grad.box.stop, strict=True), start=2):
        back = axis - grad.ndim  # tensors broadcast from the last axis
        if -back <= other.ndim and other.shape[back] == grad.shape[back]:
            index[back] = slice(first, stop)
    return other[tuple(index)]
