"""Rules for interpolation between grids of different sizes, and for padding with image values."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segxai.rows.cotangent import Cotangent, on_a_box, rule_for
from segxai.rows.rules.separable import adjoint, only

aten = torch.ops.aten

# Each backward operation, and the forward one whose matrix it transposes. Antialiased ones are left
# to the dense way: PyTorch's are wrong on a grid that is one voxel wide.
INTERPOLATIONS = {
    getattr(aten, f"{name}_backward").default: getattr(aten, name).default
    for name in (
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_trilinear3d",
        "upsample_bicubic2d",
    )
}
PADDINGS = {
    getattr(aten, f"{name}_backward").default: getattr(aten, name).default
    for name in (
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
    )
}


@rule_for(*INTERPOLATIONS)
@on_a_box
def _interpolation(
    func: Any, grad: Cotangent, size: Sequence[int], shape: Sequence[int], *options: Any
) -> Cotangent:
    """Gather rows at each input voxel from the outputs around it, axis by axis."""
    axes = len(size)
    align = tuple(one for one in options if isinstance(one, bool))  # not for nearest neighbours
    scales = (*options[len(align) :], *[None] * axes)[:axes]
    arguments = [
        (only(n, axis, axes, 1), *align, *only(scale, axis, axes, None))
        for axis, (n, scale) in enumerate(zip(size, scales, strict=True))
    ]
    return adjoint(grad, shape, INTERPOLATIONS[func], arguments)


@rule_for(*PADDINGS)
@on_a_box
def _padding(func: Any, grad: Cotangent, image: Tensor, pads: Sequence[int]) -> Cotangent:
    """Gather rows at each voxel, also from its copies in the padding."""
    axes = image.ndim - 2
    arguments = []
    for axis in range(axes):
        last = 2 * (axes - 1 - axis)  # pads begin with the last axis
        arguments.append(((0,) * last + (*pads[last : last + 2],) + (0,) * (2 * axis),))
    return adjoint(grad, image.shape, PADDINGS[func], arguments)
