"""Training cases: a brain, real lesion shapes, a scanner; and patches cut from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.ndimage import label

from segxai_ms_lesion.recipe.anatomies import (
    Anatomy,
    open_patient,
    open_phantom,
    patient_anatomy,
    phantom_anatomy,
)
from segxai_ms_lesion.recipe.appearance import scanned
from segxai_ms_lesion.recipe.lesions import (
    NEIGHBOURS_18,
    is_heavy,
    placed,
    random_look,
    with_lesions,
)
from segxai_ms_lesion.recipe.sources import open_masks
from segxai_ms_lesion.recipe.volumes import Volume, deformed_points, sample

Normalise = Callable[[Float[np.ndarray, "channel x y z"]], Float[np.ndarray, "channel x y z"]]

PATIENT_SHARE = 0.7
HEAVY_SHARE = 0.5  # of the cases with pasted lesions: those of masks with a confluent one
BARE_SHARE = 0.15  # of the patient's cases: those with its own lesions alone
PAIR_SHARE = 0.3  # of the cases of heavy load: those with the lesions of two masks
LESION_PATCH_SHARE = 0.6


@dataclass(frozen=True)
class Sources:
    """Everything that cases are made from, in memory, and how a network wants them normalised."""

    patient: Volume
    phantom: Volume
    masks: list[Volume]
    normalise: Normalise
    heavy_masks: list[Volume] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingCase:
    """Normalised images (flair, mprage) in float16 and lesion labels, 0 for none."""

    image: Float[np.ndarray, "channel x y z"]
    lesions: Integer[np.ndarray, "x y z"]


def open_sources(data: Path, mask_numbers: tuple[int, ...], normalise: Normalise) -> Sources:
    """Open the two brains and the lesion masks of the given patients."""
    masks = open_masks(data, mask_numbers)
    heavy = [mask for mask in masks if is_heavy(mask.values[0] > 0)]
    return Sources(open_patient(data), open_phantom(), masks, normalise, heavy)


def random_case(sources: Sources, random: np.random.Generator) -> TrainingCase:
    """Make a new case on the training patient or the phantom; some have its own lesions alone."""
    on_patient = random.random() < PATIENT_SHARE
    heavy = bool(sources.heavy_masks) and random.random() < HEAVY_SHARE
    masks = _heavy_masks(sources.heavy_masks, random) if heavy else [_any(sources.masks, random)]
    if on_patient and random.random() < BARE_SHARE:
        masks = []
    return made_case(sources, masks, random, on_patient=on_patient, heavy=heavy)


def made_case(
    sources: Sources,
    masks: list[Volume],
    random: np.random.Generator,
    *,
    on_patient: bool,
    heavy: bool,
) -> TrainingCase:
    """Make a case with lesions of the masks in one of the two brains, both deformed at random.

    Parameters
    ----------
    masks : list of Volume
        The lesions of all are pasted; none leaves the brain with its own.
    heavy : bool
        Whether nearly all lesions are kept; see `with_masks`.
    """
    strength = random.uniform(0, 1)
    anatomy = _random_anatomy(sources, on_patient, random)
    if masks:
        anatomy = with_masks(anatomy, masks, random, heavy=heavy)
    images = [scanned(image, strength, random) for image in (anatomy.flair, anatomy.mprage)]
    return finished(np.stack(images), anatomy, sources.normalise)


def finished(
    images: Float[np.ndarray, "channel x y z"], anatomy: Anatomy, normalise: Normalise
) -> TrainingCase:
    """Whole images normalised as at inference, lesions as labelled components."""
    labels, _ = label(anatomy.lesions, NEIGHBOURS_18)
    return TrainingCase(normalise(images).astype(np.float16), labels.astype(np.int16))


def _random_anatomy(sources: Sources, on_patient: bool, random: np.random.Generator) -> Anatomy:
    """One of the two brains, deformed; the template is larger than a head and shrinks more."""
    scale = (0.88, 1.12) if on_patient else (0.78, 0.98)
    points = deformed_points(
        random, scale=scale, degrees=10.0, shift_mm=5.0, displacement_mm=4.0, flip=True
    )
    if on_patient:
        return patient_anatomy(sources.patient, points)
    return phantom_anatomy(sources.phantom, points, random)


def _any(masks: list[Volume], random: np.random.Generator) -> Volume:
    """Draw one of the masks."""
    return masks[int(random.integers(len(masks)))]


def _heavy_masks(masks: list[Volume], random: np.random.Generator) -> list[Volume]:
    """Draw a mask of heavy load, or two."""
    count = 2 if random.random() < PAIR_SHARE else 1
    return [_any(masks, random) for _ in range(count)]


def with_masks(
    anatomy: Anatomy, masks: list[Volume], random: np.random.Generator, *, heavy: bool
) -> Anatomy:
    """Add a random share of the lesions of the masks to the brain, moved and deformed.

    A heavy load keeps most of them, and its edges may be softer.
    """
    shape = np.logical_or.reduce([_deformed(mask, random) for mask in masks])
    share = random.uniform(0.8, 1.0) if heavy else random.uniform(0.3, 1.0)
    labels = placed(shape, anatomy, share, random)
    look = random_look(random, 1.6 if heavy else 0.9)
    return with_lesions(anatomy, labels, look, random)


def _deformed(mask: Volume, random: np.random.Generator) -> Bool[np.ndarray, "x y z"]:
    """Move and deform the lesions of a mask, and make them a little larger or smaller."""
    points = deformed_points(
        random, scale=(0.85, 1.15), degrees=8.0, shift_mm=6.0, displacement_mm=3.0, flip=True
    )
    return np.asarray(sample(mask, points)[0] > random.uniform(0.35, 0.6))


def random_patch(case: TrainingCase, size: int, random: np.random.Generator) -> TrainingCase:
    """Cut a cube from the case, around a lesion more often than around any brain voxel.

    Left and right are swapped half of the time.
    """
    centre = _random_centre(case, random)
    jitter = random.integers(-size // 4, size // 4 + 1, 3)
    starts = [
        int(np.clip(middle + move - size // 2, 0, extent - size))
        for middle, move, extent in zip(centre, jitter, case.lesions.shape, strict=True)
    ]
    where = tuple(slice(start, start + size) for start in starts)
    step = -1 if random.random() < 0.5 else 1
    return TrainingCase(case.image[(slice(None), *where)][:, ::step], case.lesions[where][::step])


def _random_centre(case: TrainingCase, random: np.random.Generator) -> tuple[int, ...]:
    """Draw a lesion voxel with probability `LESION_PATCH_SHARE`, else any brain voxel."""
    shape = case.lesions.shape
    if random.random() < LESION_PATCH_SHARE:
        flat = np.flatnonzero(case.lesions)
        if len(flat):
            drawn = np.unravel_index(flat[random.integers(len(flat))], shape)
            return tuple(int(index) for index in drawn)
    while True:  # about one voxel in three is brain; quicker than listing them
        voxel = tuple(int(index) for index in random.integers(shape))
        if case.image[0][voxel] != 0:
            return voxel
