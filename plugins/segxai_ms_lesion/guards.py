"""Guards: warnings about pairs of brain images whose maps would be silently wrong.

The thresholds come from one real patient and from distortions of it, see
tests/ms_lesion/test_guards.py.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

LARGEST_BRAIN_MM3 = 2.0e6  # with its CSF; a whole head has twice that
WHOLE_VIEW_MM3 = 1.2e6  # in a field of view this large there is something besides brain
SAME_BRAIN = 0.9  # Dice coefficient of the two brains
SAME_IMAGE = 0.99  # correlation; 0.41 in a patient
FEWEST_LEVELS = 10
SHALLOW_MM = (2.5, 6.0)  # mostly cortex
DEEP_MM = 10.0  # mostly white matter
CSF_RANK = 0.15
SWAPPED_ORDER = -0.05  # a patient has 0.27, and -0.27 when swapped
LEAST_BAND_VOXELS = 100
LEAST_LESION_VOXELS = 20
SHELL_VOXELS = 3
SWAP = "name them, flair=FILE mprage=FILE"


def check_images(
    flair: Float[np.ndarray, "x y z"], mprage: Float[np.ndarray, "x y z"], voxel_volume_mm3: float
) -> list[str]:
    """Describe what looks wrong with a pair of brain images; return an empty list if nothing does.

    Parameters
    ----------
    flair, mprage : ndarray of shape (x, y, z)
        Intensities as they are in the files, on one grid of about cubic voxels.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    """
    warnings, brains = [], []
    for name, image in (("FLAIR", flair), ("MPRAGE", mprage)):
        background = _background(image)
        brains.append(image != background)
        warnings += _check_background(name, background)
        warnings += _check_stripped(name, brains[-1], voxel_volume_mm3)
        warnings += _check_raw(name, image[brains[-1]])
    warnings += _check_pair(flair, mprage, *brains)
    if not any(
        "skull" in warning for warning in warnings
    ):  # depth is measured from the brain's surface
        warnings += _check_order(flair, mprage, brains[0] & brains[1], voxel_volume_mm3)
    return warnings


def check_lesion_contrast(
    image: Float[np.ndarray, "2 x y z"],
    lesions: Bool[np.ndarray, "x y z"],
    foreground: Bool[np.ndarray, "x y z"],
) -> list[str]:
    """Warn if lesions do not look like MS lesions; return an empty list if they do or are too few.

    In MS, FLAIR is brighter inside a lesion than in the 3 voxels around it, and MPRAGE is darker.

    Parameters
    ----------
    image : ndarray of shape (2, x, y, z)
        FLAIR and MPRAGE.
    lesions, foreground : ndarray of shape (x, y, z)
        The lesions, predicted or drawn, and the brain.
    """
    if lesions.sum() < LEAST_LESION_VOXELS:
        return []
    distance = ndimage.distance_transform_edt(~lesions)
    shell = foreground & (distance > 0) & (distance <= SHELL_VOXELS)
    if not shell.any():
        return []
    flair, mprage = (float(c[lesions].mean() - c[shell].mean()) for c in image)
    if flair >= 0:
        return []
    found = f"FLAIR is {-flair:.2g} darker inside the lesions than around them"
    if mprage > 0:
        return [f"{found} and MPRAGE {mprage:.2g} brighter: the channels look swapped; {SWAP}"]
    return [f"{found}: lesions of MS are brighter there; check the FLAIR file and the lesions"]


def _background(image: Float[np.ndarray, "x y z"]) -> float | None:
    """Find the commonest value on the outer faces; None if it covers less than a tenth of them."""
    ends = [np.take(image, [0, -1], axis=axis).ravel() for axis in range(3)]
    values, counts = np.unique(np.concatenate(ends), return_counts=True)
    most = counts.argmax()
    return float(values[most]) if counts[most] > 0.1 * counts.sum() else None


def _check_background(name: str, background: float | None) -> list[str]:
    if background in (None, 0.0):
        return []
    return [
        f"{name} is {background:.4g} and not 0 outside of the brain, so the brain mask (all that "
        "is not 0) is wrong; give the image as it was before it was normalised or shifted"
    ]


def _check_stripped(
    name: str, brain: Bool[np.ndarray, "x y z"], voxel_volume_mm3: float
) -> list[str]:
    volume_mm3 = float(brain.sum()) * voxel_volume_mm3
    is_filled = brain.all() and volume_mm3 > WHOLE_VIEW_MM3
    if volume_mm3 <= LARGEST_BRAIN_MM3 and not is_filled:
        return []
    return [
        f"{name} has {volume_mm3 / 1e6:.1f} litres that are not background, more than a brain: the "
        "skull is not stripped, or air is not exactly 0; strip it (HD-BET, SynthStrip, FSL bet), "
        "with 0 outside"
    ]


def _check_raw(name: str, values: Float[np.ndarray, " voxel"]) -> list[str]:
    if values.size == 0:
        return [f"{name} has no voxel that differs from its background; give the right file"]
    levels = np.unique(values[:: max(1, values.size // 10_000)]).size
    if levels < FEWEST_LEVELS:
        return [f"{name} has only {levels} different values, like a mask; give the image"]
    mean, spread = float(values.mean()), float(values.std())
    negative = float((values < 0).mean())
    if negative < 0.2 and not (negative > 0 and abs(mean) < 0.05 and abs(spread - 1) < 0.1):
        return []
    return [
        f"{name} seems to be normalised already (mean {mean:.2f}, standard deviation {spread:.2f}, "
        f"{negative:.0%} of the brain negative); give the intensities as scanned, they are "
        "normalised here"
    ]


def _check_pair(
    flair: Float[np.ndarray, "x y z"],
    mprage: Float[np.ndarray, "x y z"],
    flair_brain: Bool[np.ndarray, "x y z"],
    mprage_brain: Bool[np.ndarray, "x y z"],
) -> list[str]:
    both = flair_brain & mprage_brain
    total = int(flair_brain.sum()) + int(mprage_brain.sum())
    overlap = 2 * int(both.sum()) / max(total, 1)
    if overlap < SAME_BRAIN:
        return [
            f"the brains in FLAIR and MPRAGE overlap by {overlap:.0%} only (Dice): register one to "
            "the other, and use one brain mask for both"
        ]
    with np.errstate(invalid="ignore", divide="ignore"):  # an image that is constant in the brain
        correlation = np.corrcoef(flair[both][::7], mprage[both][::7])[0, 1]
    if not abs(correlation) > SAME_IMAGE:
        return []
    return [f"FLAIR and MPRAGE are the same image (correlation {correlation:.3f}); {SWAP}"]


def _check_order(
    flair: Float[np.ndarray, "x y z"],
    mprage: Float[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    voxel_volume_mm3: float,
) -> list[str]:
    order = tissue_order(flair, mprage, brain, voxel_volume_mm3)
    if order is None or order > SWAPPED_ORDER:
        return []
    return [
        "FLAIR and MPRAGE look swapped: white matter, deep in the brain, should be brighter than "
        f"cortex in MPRAGE and not in FLAIR (order {order:.2f}, expected about 0.3); {SWAP}"
    ]


def tissue_order(
    flair: Float[np.ndarray, "x y z"],
    mprage: Float[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    voxel_volume_mm3: float,
) -> float | None:
    """Measure how much more MPRAGE brightens from cortex to deep white matter than FLAIR does.

    Brightness is a voxel's rank in the brain, 0 to 1, so that neither the scale of the intensities
    nor their gamma matters; what is among the darkest in both (CSF) is left out. The result is
    about 0.27 in a patient; its sign flips when the two are swapped. It is None where too little
    of the brain is seen.
    """
    spacing_mm = voxel_volume_mm3 ** (1 / 3)
    stride = max(1, round(2 / spacing_mm))  # every 2 mm is enough, and 8 times cheaper
    flair, mprage, brain = (a[::stride, ::stride, ::stride] for a in (flair, mprage, brain))
    depth = _depth(brain)[brain] * stride * spacing_mm
    ranks = np.stack([_ranks(flair[brain]), _ranks(mprage[brain])])
    is_tissue = (ranks > CSF_RANK).any(axis=0)
    shallow = is_tissue & (depth > SHALLOW_MM[0]) & (depth <= SHALLOW_MM[1])
    deep = is_tissue & (depth > DEEP_MM)
    if min(shallow.sum(), deep.sum()) < LEAST_BAND_VOXELS:
        return None
    rise = ranks[:, deep].mean(axis=1) - ranks[:, shallow].mean(axis=1)
    return float(rise[1] - rise[0])


def _depth(brain: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    """Compute the distance in voxels to the brain's surface; the view's border is not a surface."""
    margin = 3
    # Holes inside (CSF that is exactly 0) are not a surface either.
    padded = ndimage.binary_closing(np.pad(brain, margin, mode="edge"), iterations=2)
    filled = ndimage.binary_fill_holes(padded)[(slice(margin, -margin),) * 3]
    if filled.all():
        return np.zeros(brain.shape)
    return np.asarray(ndimage.distance_transform_edt(filled))


def _ranks(values: Float[np.ndarray, " voxel"]) -> Float[np.ndarray, " voxel"]:
    ranks = np.empty(values.size)
    ranks[np.argsort(values, kind="stable")] = np.linspace(0, 1, values.size)
    return ranks
