"""The two brains that lesions are drawn into: the training patient and the template phantom."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_closing, distance_transform_edt, gaussian_filter, label
from skimage.filters import threshold_multiotsu

from segxai_ms_lesion.recipe.sources import open_template, open_training_patient
from segxai_ms_lesion.recipe.volumes import Volume, sample, smooth_field

Image = Float[np.ndarray, "x y z"]
Mask = Bool[np.ndarray, "x y z"]

DEEP_MM = 22.0


@dataclass(frozen=True)
class Anatomy:
    """A brain with its images in arbitrary units, 0 outside the brain."""

    flair: Image
    mprage: Image
    brain: Mask
    white_matter: Mask
    tissue: Mask  # brain without cerebrospinal fluid: where a lesion may reach
    lesions: Mask


def open_patient(data: Path) -> Volume:
    """FLAIR, MPRAGE, brain, white matter, tissue and lesions of the training patient."""
    flair, mprage, lesions = open_training_patient(data)
    brain = flair.values[0] != 0
    fluid_limit, white_limit = threshold_multiotsu(mprage.values[0][brain], classes=3)
    smooth = gaussian_filter(mprage.values[0], 0.7)
    white = (smooth > white_limit) | lesions
    white = _largest_component(binary_closing(white, iterations=1) & brain)
    tissue = brain & (smooth > fluid_limit)
    parts = [flair.values[0], mprage.values[0], brain, white, tissue | lesions, lesions]
    return Volume(np.stack(parts).astype(np.float32), flair.origin_mm)


def _largest_component(mask: Mask) -> Mask:
    """Keep the largest connected component."""
    labels, _ = label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def patient_anatomy(patient: Volume, points_mm: Float[np.ndarray, "x y z axis"]) -> Anatomy:
    """Read the training patient at the points."""
    flair, mprage, brain, white, tissue, lesions = sample(patient, points_mm)
    inside = brain > 0.6
    return Anatomy(
        flair=np.where(inside, flair, np.float32(0)),
        mprage=np.where(inside, mprage, np.float32(0)),
        brain=inside,
        white_matter=white > 0.5,
        tissue=(tissue > 0.5) & inside,
        lesions=(lesions > 0.5) & inside,
    )


def open_phantom() -> Volume:
    """Cortex, deep grey, white matter, fluid, ventricles, T1 and brain of the template."""
    template, grey, white = open_template()
    brain = template.values[0] > 0
    depth_mm = distance_transform_edt(brain)
    deep = 1 / (1 + np.exp((DEEP_MM - depth_mm) / 2))
    fluid = np.clip(brain - grey - white, 0, 1)
    parts = [grey * (1 - deep), grey * deep, white, fluid * (1 - deep), fluid * deep]
    parts += [template.values[0], brain]
    return Volume(np.stack(parts).astype(np.float32), template.origin_mm)


def phantom_shares(
    phantom: Volume, points_mm: Float[np.ndarray, "x y z axis"], power: float
) -> Float[np.ndarray, "tissue x y z"]:
    """Shares of cortex, deep grey, white matter, outer fluid and ventricles at the points.

    The template averages many heads; a power above 1 sharpens what that has blurred.
    """
    shares = sample(phantom, points_mm)[:5] ** np.float32(power)
    shares /= np.maximum(shares.sum(axis=0), np.float32(1e-3))
    return shares


def phantom_anatomy(
    phantom: Volume, points_mm: Float[np.ndarray, "x y z axis"], random: np.random.Generator
) -> Anatomy:
    """Build a healthy brain on the template's anatomy, with contrasts drawn at random.

    The order of the tissues is kept: fluid, white, grey in FLAIR; fluid, grey, white in MPRAGE.
    """
    template, brain = sample(phantom, points_mm)[5:]
    inside = gaussian_filter(brain, 1.0) > random.uniform(0.5, 0.9)
    shares = phantom_shares(phantom, points_mm, random.uniform(1.0, 3.0))
    flair = mixed(shares, _flair_levels(random), random)
    mprage = mixed(shares, _mprage_levels(random), random)
    keep_template = random.choice([0.0, random.uniform(0, 1)])
    mprage = (1 - keep_template) * mprage + keep_template * template / 0.9
    flair += _ventricle_rim(shares, random)
    return healthy(shares, inside, flair, mprage)


def healthy(
    shares: Float[np.ndarray, "tissue x y z"], inside: Mask, flair: Image, mprage: Image
) -> Anatomy:
    """Build the brain of these tissues and images, without lesions."""
    return Anatomy(
        flair=np.where(inside, flair, np.float32(0)).astype(np.float32),
        mprage=np.where(inside, mprage, np.float32(0)).astype(np.float32),
        brain=inside,
        white_matter=inside & (shares[2] > 0.5),
        tissue=inside & (shares[3] + shares[4] < 0.3),
        lesions=np.zeros_like(inside),
    )


def _flair_levels(random: np.random.Generator) -> Float[np.ndarray, " tissue"]:
    """Levels of cortex, deep grey, white matter, outer fluid, ventricles; white matter is 1."""
    cortex = random.uniform(1.0, 1.3)
    deep = random.uniform(0.9, cortex)
    outer, ventricle = random.uniform(0.2, 0.7), random.uniform(0.05, 0.4)
    return np.array([cortex, deep, 1.0, outer, ventricle])


def _mprage_levels(random: np.random.Generator) -> Float[np.ndarray, " tissue"]:
    """Levels of cortex, deep grey, white matter, outer fluid, ventricles; white matter is 1."""
    cortex = random.uniform(0.55, 0.85)
    deep = random.uniform(cortex, 0.95)
    return np.array([cortex, deep, 1.0, random.uniform(0.15, 0.45), random.uniform(0.1, 0.35)])


def mixed(
    shares: Float[np.ndarray, "tissue x y z"],
    levels: Float[np.ndarray, " tissue"],
    random: np.random.Generator,
) -> Image:
    """Tissue levels weighed by their shares, each tissue unevenly bright."""
    shape = shares.shape[1:]
    image = np.zeros(shape, dtype=np.float32)
    for share, level in zip(shares, levels, strict=True):
        uneven = 1 + random.uniform(0, 0.06) * smooth_field(random, (18, 22, 18), shape)
        image += share * np.float32(level) * uneven
    return image


def _ventricle_rim(shares: Float[np.ndarray, "tissue x y z"], random: np.random.Generator) -> Image:
    """Extra FLAIR brightness along the ventricles that is no lesion."""
    nearby = gaussian_filter(shares[4], random.uniform(0.8, 2.0))
    patchy = np.clip(smooth_field(random, (10, 12, 10), shares.shape[1:]), 0, 1.5)
    brightness: Image = random.uniform(0, 0.35) * nearby * (1 - shares[4]) * patchy
    return brightness
