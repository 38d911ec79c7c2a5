"""Places: where in an image a moved or a made-up lesion may lie. No torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.masks import load_mask
from segxai.types import Case

INSIDE = 0.9  # of a lesion's voxels must lie in the tissue that it is moved to
MOST_TRIALS = 20_000
NEAR_MM, FAR_MM = 2.0, 8.0  # the shell around objects whose brightness is typical
MOST_DEVIATIONS = 1.5
FROM_OBJECTS_MM = 5.0
FROM_HEAD_MM = 2.0

Voxels = Int[np.ndarray, "voxel axis"]
Mask = Bool[np.ndarray, "*grid"]


def target_of(case: Case, healthy: Mask, where: Path | None) -> Mask:
    """Mark the healthy tissue that lesions are moved to: away from objects, and in a mask.

    Parameters
    ----------
    healthy : ndarray of shape (*grid)
        Foreground without objects.
    where : Path, optional
        The mask; by default, tissue as bright as that around the objects.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    objects = case.foreground & ~healthy
    away = np.full(objects.shape, np.inf)
    if objects.any():
        away = np.asarray(ndimage.distance_transform_edt(~objects, sampling=case.grid.spacing))
    if where is None:
        allowed = typical_tissue(case, healthy, away)
    else:
        allowed = np.asarray(load_mask(where, case) != 0)
    target = healthy & (away >= FROM_OBJECTS_MM) & allowed
    if not target.any():
        raise SegxaiError(
            f"no healthy tissue at {FROM_OBJECTS_MM:g} mm or more from all objects is "
            f"{'in the mask' if where else 'as bright as their surroundings'}; say where "
            "lesions may go with --where MASK"
        )
    return target


def outside_of_head(case: Case) -> Mask:
    """Mark what lies outside of the head, at 2 mm or more from it."""
    head = ndimage.binary_fill_holes(case.foreground)
    if head.all():
        return np.zeros(case.grid.shape, dtype=bool)
    away = ndimage.distance_transform_edt(~head, sampling=case.grid.spacing)
    return np.asarray(away >= FROM_HEAD_MM)


def typical_tissue(case: Case, healthy: Mask, away: Float[np.ndarray, "*grid"]) -> Mask:
    """Mark where every channel is as bright as the healthy tissue around the objects.

    That is within 1.5 standard deviations of its mean, 2 to 8 mm from them: for lesions of white
    matter, white matter. All healthy tissue if there is none at that distance.

    Parameters
    ----------
    healthy : ndarray of shape (*grid)
        Foreground without objects.
    away : ndarray of shape (*grid)
        Distance to the nearest object, in mm.
    """
    shell = healthy & (away >= NEAR_MM) & (away <= FAR_MM)
    if not shell.any():
        return healthy
    inside = case.image[:, shell]
    shape = (-1, *(1,) * healthy.ndim)
    mean, deviation = (
        one.reshape(shape) for one in (inside.mean(axis=1), np.maximum(inside.std(axis=1), 1e-6))
    )
    typical = np.abs(case.image - mean) <= MOST_DEVIATIONS * deviation
    return np.asarray(healthy & typical.all(axis=0))


def place_in(
    mask: Mask, patch: Voxels, count: int, generator: np.random.Generator
) -> Int[np.ndarray, "place axis"]:
    """Draw shifts that bring a patch into a mask, at random places of it.

    At least nine tenths of the patch lie in the mask then, and all of it on the grid.

    Returns
    -------
    ndarray of shape (place, axis)
        Up to `count` of them; fewer, or none, if 20 000 trials find no more.
    """
    centres = np.argwhere(mask)
    middle = np.rint(patch.mean(axis=0)).astype(int)
    shape = np.array(mask.shape)
    found: list[Int[np.ndarray, " axis"]] = []
    for number in generator.permutation(len(centres))[:MOST_TRIALS]:
        offset = centres[number] - middle
        there = patch + offset
        if (there >= 0).all() and (there < shape).all() and mask[tuple(there.T)].mean() >= INSIDE:
            found.append(offset)
            if len(found) == count:
                break
    return np.array(found, dtype=int).reshape(-1, mask.ndim)


def balls_of(sizes: Sequence[float], grid: Grid) -> list[Voxels]:
    """Build balls (discs in 2D) around a voxel, as shifts from it, as near to volumes as can be.

    Each holds all voxels up to a distance: at 1 mm, 93 mm3 are the 93 with a square of up to 8.
    """
    rank = len(grid.shape)
    # A ball of radius r holds a cube of side r at least.
    reach = [int(np.ceil(max(sizes) ** (1 / rank) / step)) + 1 for step in grid.spacing]
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    shifts = shifts.reshape(-1, rank)
    squares = np.round(((shifts * grid.spacing) ** 2).sum(axis=1), 6)
    radii, counts = np.unique(squares, return_counts=True)
    volumes = np.cumsum(counts) * grid.voxel_volume_mm3
    chosen = [radii[np.abs(volumes - size).argmin()] for size in sizes]
    return [shifts[squares <= radius] for radius in chosen]
