"""Phantoms: made-up cases from an embedded one, so that a cohort runs with no file at all.

The recipe, all of it drawn from `numpy.random.default_rng([SEED, number])`. The case's own objects
are replaced by their surroundings. Copies of them are put where the image looks as it did around
them: 5 to 9, each with 0.5 to 1.2 times its contrast and some of them grown by a voxel, which are
the reference; and 3 more, of 0.5 to 0.9 times, that are not: distractors. Every fifth phantom is a
healthy control and gets distractors alone. Then the whole head is deformed smoothly, by 2 voxels
(root mean square, before it is interpolated linearly). One anatomy stays one anatomy: phantoms show
that commands work, and nothing about patients.
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.instances import components
from segxai.matching import Voxels
from segxai.types import Case, InstanceCriteria, Source

COUNT: Final = 10
SEED: Final = 0
HEALTHY_EVERY: Final = 5
OBJECTS: Final = (5, 9)
CONTRAST: Final = (0.5, 1.2)
DISTRACTORS: Final = 3
DISTRACTOR_CONTRAST: Final = (0.5, 0.9)
MARGIN: Final = 2  # voxels around an object: its surroundings, and the least distance of two
SMOOTHNESS, AMPLITUDE = 12.0, 2.0  # of the deformation, in voxels


def is_healthy(number: int) -> bool:
    """Return whether a phantom, counted from 1, has no object."""
    return number % HEALTHY_EVERY == 0


def phantom(case: Case, number: int) -> Case:
    """Make a phantom of a case; the module describes how.

    Parameters
    ----------
    number : int
        From 1: the same number gives the same phantom.

    Raises
    ------
    SegxaiError
        If the case has no reference, or none on the network's own grid.
    """
    if case.reference is None or not case.reference.any() or case.domains_on_source:
        raise SegxaiError(
            "the plugin's embedded case cannot be made into a cohort: it has no reference on the "
            "network's grid; give a CSV of cases"
        )
    rng = np.random.default_rng([SEED, number])
    objects = _objects(case)
    image = _without(case, objects, rng)
    places = np.argwhere(_looks_like_surroundings(case, image, objects))
    reference = np.zeros(case.grid.shape, dtype=bool)
    taken = ~case.foreground
    wanted = 0 if is_healthy(number) else int(rng.integers(*OBJECTS, endpoint=True))
    for place in range(wanted + DISTRACTORS):
        is_object = place < wanted
        contrast = rng.uniform(*(CONTRAST if is_object else DISTRACTOR_CONTRAST))
        voxels = _implant(case, image, objects, places, taken, contrast, rng)
        if is_object and voxels is not None:
            reference[tuple(voxels.T)] = True
    return _deformed(replace(case, image=image, reference=reference), number, rng)


def _objects(case: Case) -> list[Voxels]:
    return components(np.asarray(case.reference) != 0, case.grid, InstanceCriteria())


def _around(mask: Bool[np.ndarray, "*grid"], case: Case) -> Bool[np.ndarray, "*grid"]:
    """Mark the surroundings of a mask: near it, not in it, inside the foreground."""
    near: Bool[np.ndarray, "*grid"] = ndimage.binary_dilation(mask, iterations=MARGIN + 1)
    inner = ndimage.binary_dilation(mask)
    return near & ~inner & case.foreground


def _mask(voxels: Voxels, grid: Grid) -> Bool[np.ndarray, "*grid"]:
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(voxels.T)] = True
    return mask


def _without(
    case: Case, objects: list[Voxels], rng: np.random.Generator
) -> Float[np.ndarray, "channel *grid"]:
    """Replace each object, and the voxels next to it, by values of its surroundings."""
    image = case.image.copy()
    for voxels in objects:
        mask = _mask(voxels, case.grid)
        hole = ndimage.binary_dilation(mask) & case.foreground
        around = image[:, _around(mask, case)]
        image[:, hole] = around[:, rng.integers(around.shape[1], size=int(hole.sum()))]
    smooth = ndimage.gaussian_filter(image, (0, *(0.5,) * (image.ndim - 1)))
    holes = np.any([ndimage.binary_dilation(_mask(one, case.grid)) for one in objects], axis=0)
    image[:, holes] = smooth[:, holes]
    return image


def _looks_like_surroundings(
    case: Case, image: Float[np.ndarray, "channel *grid"], objects: list[Voxels]
) -> Bool[np.ndarray, "*grid"]:
    """Mark where each smoothed channel lies in the middle 80 % of its values around objects."""
    smooth = ndimage.gaussian_filter(image, (0, *(1.0,) * (image.ndim - 1)))
    around = np.any([_around(_mask(one, case.grid), case) for one in objects], axis=0)
    inside = ndimage.binary_erosion(case.foreground, iterations=3 * MARGIN)
    for channel in smooth:
        low, high = np.percentile(channel[around], (10, 90))
        inside &= (channel >= low) & (channel <= high)
    return np.asarray(inside)


def _implant(
    case: Case,
    image: Float[np.ndarray, "channel *grid"],
    objects: list[Voxels],
    places: Voxels,
    taken: Bool[np.ndarray, "*grid"],
    contrast: float,
    rng: np.random.Generator,
) -> Voxels | None:
    """Add the contrast of an object somewhere, mark its place as taken, and return its voxels.

    None if no place is found.
    """
    voxels = objects[int(rng.integers(len(objects)))]
    own = _mask(voxels, case.grid)
    surroundings = case.image[:, _around(own, case)].mean(axis=1, keepdims=True)
    offsets = voxels - voxels[len(voxels) // 2]
    values = contrast * (case.image[(slice(None), *voxels.T)] - surroundings)
    if rng.random() < 0.5:  # grown: the new voxels have the mean contrast
        shell = np.argwhere(ndimage.binary_dilation(own) & ~own) - voxels[len(voxels) // 2]
        offsets = np.concatenate([offsets, shell])
        mean = np.repeat(values.mean(axis=1, keepdims=True), len(shell), axis=1)
        values = np.concatenate([values, mean], axis=1)
    for _ in range(1000):
        moved = places[int(rng.integers(len(places)))] + offsets
        is_inside = (moved >= 0).all() and (moved < case.grid.shape).all()
        if is_inside and not taken[tuple(moved.T)].any():
            image[(slice(None), *moved.T)] += values.astype(image.dtype)
            taken |= ndimage.binary_dilation(_mask(moved, case.grid), iterations=MARGIN + 1)
            return moved
    return None


def _deformed(case: Case, number: int, rng: np.random.Generator) -> Case:
    """Deform a case smoothly, and say in its sources what it is made of."""
    shape = case.grid.shape
    field = rng.normal(size=(len(shape), *shape)).astype(np.float32)
    field = ndimage.gaussian_filter(field, (0, *(SMOOTHNESS,) * len(shape)))
    field *= AMPLITUDE / np.sqrt(np.square(field).mean())
    places = np.indices(shape, dtype=np.float32) + field

    def moved(values: np.ndarray, order: int) -> np.ndarray:
        found: np.ndarray = ndimage.map_coordinates(values, places, order=order, mode="nearest")
        return found

    foreground = moved(case.foreground.astype(np.uint8), 0) != 0
    image = np.stack([moved(channel, 1) for channel in case.image])
    reference = moved(np.asarray(case.reference).astype(np.uint8), 0) != 0
    black = case.black or (0.0,) * len(image)
    image[:, ~foreground] = np.array(black, image.dtype)[:, None]
    recipe = Source("recipe", f"phantom {number}", sha256(Path(__file__).read_bytes()).hexdigest())
    return replace(
        case,
        image=image.astype(np.float32),
        foreground=foreground,
        reference=reference,
        sources=(*case.sources, recipe),
        notes=(*case.notes, f"phantom {number} of the embedded case, seed {SEED}"),
    )
