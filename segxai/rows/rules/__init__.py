"""Rules for how backward operations move a box; importing this package registers them.

A rule gets the arguments of the operation, with a `Cotangent` in place of the dense one, and
returns what the operation returns. It finds the box of voxels that the operation can make differ
from 0, does the operation on that box alone, and returns `Cotangent(rows, start, dense shape)`;
`clipped` cuts off what would lie outside the grid. Returning `NotImplemented` leaves the work to
the dense way, so that a rule need only handle the cases that it is sure of. `on_a_box` keeps away
calls without a cotangent on a box. The test of a rule compares it with the dense way over random
shapes, and checks that the result has a box.
"""

from segxai.rows.rules import (
    activation,
    arithmetic,
    convolution,
    normalisation,
    pooling,
    resampling,
    reshaping,
    slicing,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "normalisation",
    "pooling",
    "resampling",
    "reshaping",
    "slicing",
]
