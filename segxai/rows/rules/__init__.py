"""How each backward operation moves a box: importing this package registers the rules.

A rule gets what the operation gets, with a `Cotangent` in place of the dense one, and returns what
it returns. It finds the box of voxels that the operation can make differ from 0, does the
operation on that box alone, and gives it back as `Cotangent(rows, start, dense shape)`; `clipped`
cuts off what would lie outside of the grid. `NotImplemented` leaves the work to the dense way, so
a rule need only know the cases that it is sure of. `on_a_box` keeps the others away. Its test
compares it with the dense way over random shapes, and asks for a box.
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
