"""Real lesion shapes drawn into a brain: bright in FLAIR, dark in MPRAGE."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.ndimage import binary_dilation, gaussian_filter, generate_binary_structure, label

from segxai_ms_lesion.recipe.anatomies import Anatomy
from segxai_ms_lesion.recipe.volumes import smooth_field

Image = Float[np.ndarray, "x y z"]
Mask = Bool[np.ndarray, "x y z"]

NEIGHBOURS_18 = generate_binary_structure(3, 2)
SMALLEST_SHARE_IN_WHITE_MATTER = 0.5
SMALLEST_SHARE_OF_CONFLUENT = 0.25
CONFLUENT_MM3 = 1000  # from here on a lesion may join others, and stays close to white matter
HEAVY_MM3 = 3000  # a mask that holds a lesion of this size is one of heavy load


@dataclass(frozen=True)
class LesionLook:
    """How one patient's lesions differ from the tissue around them; fractions of its level."""

    flair_gain: float
    mprage_loss: float
    spread: float  # each lesion draws its own factor from [1 - spread, 1 + spread]
    edge_mm: float  # standard deviation of the soft edge
    halo: float  # brightness of the unlabelled surroundings, relative to the lesion


def is_heavy(mask: Mask) -> bool:
    """Whether the largest lesion has `HEAVY_MM3`."""
    labels, _ = label(mask, NEIGHBOURS_18)
    return bool(np.bincount(labels.ravel())[1:].max(initial=0) >= HEAVY_MM3)


def random_look(random: np.random.Generator, widest_edge_mm: float = 0.9) -> LesionLook:
    """Draw a look around the measured contrasts: FLAIR +36 to 47 %, MPRAGE -12 to -17 %."""
    return LesionLook(
        flair_gain=random.uniform(0.2, 0.65),
        mprage_loss=random.uniform(0.0, 0.35),
        spread=random.uniform(0.1, 0.5),
        edge_mm=random.uniform(0.4, widest_edge_mm),
        halo=random.choice([0.0, random.uniform(0, 0.3)]),
    )


def placed(
    mask: Mask, anatomy: Anatomy, share: float, random: np.random.Generator
) -> Integer[np.ndarray, "x y z"]:
    """Labels of the lesions of a mask that fit the brain, a random share of them; 0 elsewhere.

    A lesion fits if at least half of it lies in white matter and it touches no lesion already
    there; what reaches into cerebrospinal fluid is cut off. Confluent lesions need
    a quarter only, join those already there, and are cut off 2 mm from white matter.
    """
    labels, number = label(mask, NEIGHBOURS_18)
    flat = labels.ravel()
    size = np.bincount(flat, minlength=number + 1)
    in_white = np.bincount(flat, anatomy.white_matter.ravel(), minlength=number + 1)
    occupied = binary_dilation(anatomy.lesions, NEIGHBOURS_18, iterations=2)
    taken = np.bincount(flat, occupied.ravel(), minlength=number + 1)
    confluent = size >= CONFLUENT_MM3
    needed = np.where(confluent, SMALLEST_SHARE_OF_CONFLUENT, SMALLEST_SHARE_IN_WHITE_MATTER)
    keep = (in_white >= needed * size) & ((taken == 0) | confluent)
    keep &= random.random(number + 1) < share
    keep[0] = False
    near_white = binary_dilation(anatomy.white_matter, NEIGHBOURS_18, iterations=2)
    free = anatomy.tissue & ~anatomy.lesions & (near_white | ~confluent[labels])
    return np.where(keep[labels] & free, labels, 0)


def with_lesions(
    anatomy: Anatomy,
    labels: Integer[np.ndarray, "x y z"],
    look: LesionLook,
    random: np.random.Generator,
) -> Anatomy:
    """Draw the labelled lesions into the brain and add them to its lesion mask."""
    factor = random.uniform(1 - look.spread, 1 + look.spread, labels.max() + 1)
    factor[0] = 0
    strength = factor.astype(np.float32)[labels]
    soft = _softened(strength, look.edge_mm, random)
    halo = look.halo * gaussian_filter(strength, 2.5)
    bright = look.flair_gain * np.maximum(soft, halo)
    dark = np.clip(look.mprage_loss * random.uniform(0.7, 1.3) * soft, 0, 0.8)
    return replace(
        anatomy,
        flair=anatomy.flair * (1 + bright),
        mprage=anatomy.mprage * (1 - dark),
        lesions=anatomy.lesions | (labels > 0),
    )


def _softened(strength: Image, edge_mm: float, random: np.random.Generator) -> Image:
    """Lesion strength with soft edges and an uneven inside.

    Blurring takes most of a small lesion's contrast, which raters would then not have seen:
    a random gain gives part of it back, up to the strength that was asked for.
    """
    uneven = 1 + random.uniform(0, 0.25) * smooth_field(random, (36, 44, 36), strength.shape)
    blurred = gaussian_filter(strength, edge_mm) * random.uniform(1.0, 1.7)
    softened: Image = np.minimum(blurred, strength.max()) * np.clip(uneven, 0.4, 1.6)
    return softened
