"""Voxel sizes: their unit in a header, and which sizes, and changes of size, make no sense."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.text import format_shape

UNITS: Mapping[int, tuple[str, float]] = {1: ("metre", 1000.0), 3: ("micron", 0.001)}  # in mm
SMALLEST_MM, LARGEST_MM = 0.01, 20.0  # an image of a body has voxels between these
ROUNDING = 1e-3  # of a voxel size: headers hold less exact numbers
MOST_TIMES = 100  # as many voxels after resampling, or as few


def unit_mm(header: Any) -> float:
    """Return the unit of length in a header, in mm: of NIfTI xyzt_units, of others 1."""
    return UNITS.get(_unit_code(header), ("mm", 1.0))[1]


def header_spacing(path: Path) -> tuple[float, ...]:
    """Read the voxel size in the header of a file that nibabel reads, in mm.

    That of the affine can differ: headers of oblique images are rounded.
    """
    header: Any = nib.load(path).header
    return tuple(float(step) * unit_mm(header) for step in header.get_zooms()[:3])


def check_spacing(grid: Grid, header: Any, what: str) -> None:
    """Check that the voxels of a file are neither absurdly small nor large.

    Parameters
    ----------
    grid : Grid
        In mm.
    header : Any
        The file's header, for its unit.
    what : str
        The file, for the message.

    Raises
    ------
    SegxaiError
        If a voxel is longer than 20 mm or shorter than 0.01 mm along an axis.
    """
    least, most = SMALLEST_MM * (1 - ROUNDING), LARGEST_MM * (1 + ROUNDING)
    if all(least <= step <= most for step in grid.spacing):
        return
    unit = UNITS.get(_unit_code(header), ("", 1.0))[0]
    why = f"its header is in {unit}s" if unit else "its header is in mm, or names no unit"
    raise SegxaiError(
        f"{what} has voxels of {_sizes(grid)} mm, outside of {SMALLEST_MM:g} to {LARGEST_MM:g} mm "
        f"({why}): correct the affine, or the unit of length (xyzt_units), in the header"
    )


def check_change(before: Grid, after: Grid) -> None:
    """Check that resampling does not change the number of voxels absurdly.

    Raises
    ------
    SegxaiError
        If there would be more than 100 times as many voxels, or as few.
    """
    times = math.prod(after.shape) / math.prod(before.shape)
    if 1 / MOST_TIMES <= times <= MOST_TIMES:
        return
    raise SegxaiError(
        f"{format_shape(before.shape)} voxels of {_sizes(before)} mm would become "
        f"{format_shape(after.shape)} voxels of {_sizes(after)} mm for the network, {times:.3g} "
        "times as many; check the voxel size in the file's header, and if it is right, resample "
        "the image yourself"
    )


def _unit_code(header: Any) -> int:
    try:
        return int(header["xyzt_units"]) % 8  # the other bits are the unit of time
    except (KeyError, ValueError, TypeError, IndexError):
        return 0  # not of NIfTI


def _sizes(grid: Grid) -> str:
    steps = [f"{step:.3g}" for step in grid.spacing]
    return steps[0] if len(set(steps)) == 1 else " x ".join(steps)
