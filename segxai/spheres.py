"""Spheres: balls as instances, from the words of the command line."""

from collections.abc import Iterable

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.types import Instance

PREFIX = "sphere:"
Sphere = tuple[float, ...]  # the centre's coordinates and the radius, in mm


def parse_spheres(text: str) -> tuple[Sphere, ...]:
    """The balls of `sphere:X,Y,Z,R`, or of several: `sphere:X,Y,Z,R:X,Y,Z,R`; in mm.

    Raises
    ------
    SegxaiError
        If it is anything else.
    """
    try:
        spheres = tuple(
            tuple(float(number) for number in one.split(","))
            for one in text.removeprefix(PREFIX).split(":")
        )
    except ValueError:
        spheres = ()
    if not text.startswith(PREFIX) or not spheres or min(map(len, spheres)) < 2:
        raise SegxaiError(
            f"--instances {text}: give a centre and a radius in mm, sphere:X,Y,Z,R; of more than "
            "one, sphere:X,Y,Z,R:X,Y,Z,R"
        )
    return spheres


def balls(spheres: Iterable[Sphere], grid: Grid, class_index: int) -> list[Instance]:
    """The instances of some balls, by number from 1; they may overlap.

    Raises
    ------
    SegxaiError
        If one of them has no voxel, or other axes than the grid.
    """
    return [
        Instance.sphere(numbers[:-1], numbers[-1], grid, label=label, class_index=class_index)
        for label, numbers in enumerate(spheres, start=1)
    ]
