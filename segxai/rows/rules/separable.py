"""Linear maps that act on one axis of the grid after the other, each through a matrix.

Interpolation, average pooling and padding by reflection are all of this kind. The matrix of an axis
is what PyTorch's own operation makes of the unit vectors, so sizes, scales, edges and rounding are
PyTorch's. On a box, the adjoint of such a map needs only the matrix columns of the box, and only
the rows in which they are not 0.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.rows.cotangent import Cotangent


def adjoint(
    grad: Cotangent, shape: Sequence[int], operation: Any, arguments: Sequence[tuple[Any, ...]]
) -> Cotangent:
    """Apply the adjoint of a separable map to a cotangent.

    Parameters
    ----------
    grad : Cotangent
        The cotangent of the map's output.
    shape : sequence of int
        Shape of the map's input: (1, channel, *grid).
    operation : callable
        The map itself. It must do nothing along the axes that its arguments leave alone.
    arguments : sequence of tuple
        For each axis of the grid, the arguments that make the operation act on this axis only.
    """
    rows, start, kind = grad.rows.movedim(1, -1), [], (grad.dtype, grad.device)
    for axis, one in enumerate(arguments):
        matrix = axis_matrix(operation, axis, len(arguments), shape[2 + axis], one, *kind)
        columns = matrix[:, grad.box.start[axis] : grad.box.stop[axis]]
        used = columns.any(dim=1).nonzero().flatten().tolist() or [0]
        start.append(used[0])
        rows = _along(rows, 1 + axis, columns[used[0] : used[-1] + 1])
    rows = rows.movedim(-1, 1)
    in_order = grad.rows.is_contiguous()
    return Cotangent(rows.contiguous() if in_order else rows, tuple(start), shape)


def only(value: Any, axis: int, axes: int, other: Any) -> tuple[Any, ...]:
    """Return one value for an axis, and another for all the other axes."""
    return tuple(value if one == axis else other for one in range(axes))


@lru_cache(maxsize=64)
def axis_matrix(
    operation: Any,
    axis: int,
    axes: int,
    size: int,
    arguments: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Float[Tensor, "input output"]:
    """Compute the matrix of an operation along one axis, from all unit vectors at once."""
    shape = [1] * axes
    shape[axis] = size
    units = torch.eye(size, dtype=dtype, device=device)
    return operation(units.view(1, size, *shape), *arguments).view(size, -1)


def _along(rows: Tensor, axis: int, matrix: Float[Tensor, "input output"]) -> Tensor:
    """Multiply each line of the rows along an axis by the matrix.

    The channels come last, so that there are a few large products instead of many small ones.
    """
    shape = rows.shape
    lines = rows.reshape(-1, shape[axis], shape[axis + 1 :].numel())
    return (matrix @ lines).view(*shape[:axis], len(matrix), *shape[axis + 1 :])
