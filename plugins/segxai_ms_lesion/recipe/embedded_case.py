"""Make the embedded case, a phantom: `python -m segxai_ms_lesion.recipe.embedded_case --help`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy.ndimage import gaussian_filter, label

from segxai_ms_lesion.recipe.anatomies import Anatomy, healthy, mixed, open_phantom, phantom_shares
from segxai_ms_lesion.recipe.lesions import NEIGHBOURS_18, LesionLook, with_lesions
from segxai_ms_lesion.recipe.sources import EMBEDDED_CASE_MASK, mask_path, open_volume
from segxai_ms_lesion.recipe.volumes import grid_points, sample, smooth_field

SHAPE = (144, 168, 96)
ORIGIN_MM = (-72.0, -101.0, -26.0)
CENTRE_MM = (0.0, -18.0, 8.0)
HEAD_SCALE = 0.88  # the template is that much larger than the heads of open_ms
FLAIR_LEVELS = (1.16, 1.06, 1.0, 0.5, 0.15)  # cortex, deep grey, white, outer fluid, ventricles
MPRAGE_LEVELS = (0.68, 0.82, 1.0, 0.34, 0.2)
WHITE_MATTER_LEVEL = 120  # of 255, in both images
NOISE = 0.025  # of the white matter's level
SEED = 28


@dataclass(frozen=True)
class Place:
    """A lesion: which component of the mask, the voxel of its centre, and its contrasts."""

    shape: int
    centre: tuple[int, int, int]
    flair_gain: float
    mprage_loss: float


# Small, since explaining a voxel costs a backward pass. The last is too faint to be found.
PLACES = (
    Place(shape=50, centre=(49, 121, 50), flair_gain=0.45, mprage_loss=0.18),
    Place(shape=58, centre=(92, 80, 66), flair_gain=0.5, mprage_loss=0.15),
    Place(shape=113, centre=(106, 60, 34), flair_gain=0.4, mprage_loss=0.25),
    Place(shape=26, centre=(38, 62, 34), flair_gain=0.55, mprage_loss=0.1),
    Place(shape=30, centre=(97, 134, 34), flair_gain=0.38, mprage_loss=0.12),
    Place(shape=39, centre=(44, 58, 50), flair_gain=0.6, mprage_loss=0.3),
    Place(shape=41, centre=(101, 61, 50), flair_gain=0.08, mprage_loss=0.03),
)


def main() -> None:
    """Write flair.nii.gz, mprage.nii.gz and reference.nii.gz to a folder."""
    parser = argparse.ArgumentParser(description="Make the embedded phantom.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "case")
    asked = parser.parse_args()
    shapes, _ = label(
        open_volume(mask_path(asked.data, EMBEDDED_CASE_MASK)).values[0], NEIGHBOURS_18
    )
    case = phantom_case(shapes, PLACES)
    affine = np.eye(4)
    affine[:3, 3] = ORIGIN_MM
    for name, values in case.items():
        image = nib.Nifti1Image(values, affine)
        image.set_sform(affine, code="mni")
        image.set_qform(affine, code="mni")
        nib.save(image, asked.out / f"{name}.nii.gz")


def phantom_case(
    shapes: Integer[np.ndarray, "a b c"], places: tuple[Place, ...]
) -> dict[str, UInt8[np.ndarray, "x y z"]]:
    """FLAIR, MPRAGE and reference of the phantom; labelled lesion shapes put at the places."""
    random = np.random.default_rng(SEED)
    anatomy = _healthy_brain(random)
    for place in places:
        anatomy = _with_lesion(anatomy, _mask_at(shapes == place.shape, place.centre), place)
    return {
        "flair": _acquired(anatomy.flair, anatomy.brain, random),
        "mprage": _acquired(anatomy.mprage, anatomy.brain, random),
        "reference": anatomy.lesions.astype(np.uint8),
    }


def _healthy_brain(random: np.random.Generator) -> Anatomy:
    """Build the template at the size of a head, a little deformed, with fixed contrasts."""
    phantom = open_phantom()
    points = (grid_points(SHAPE, ORIGIN_MM) - np.array(CENTRE_MM)) / HEAD_SCALE
    points = (points + np.array(CENTRE_MM)).astype(np.float32)
    for axis in range(3):
        points[..., axis] += 2.0 * smooth_field(random, (8, 9, 6), SHAPE)
    shares = phantom_shares(phantom, points, 2.0)
    inside = gaussian_filter(sample(phantom, points)[6], 1.0) > 0.7
    flair = mixed(shares, np.array(FLAIR_LEVELS), random)
    mprage = mixed(shares, np.array(MPRAGE_LEVELS), random)
    return healthy(shares, inside, flair, mprage)


def _mask_at(
    shape: Bool[np.ndarray, "a b c"], centre: tuple[int, int, int]
) -> Bool[np.ndarray, "x y z"]:
    """Move the lesion shape so that the mean of its voxels lies at the centre."""
    voxels = np.argwhere(shape)
    moved = voxels - voxels.mean(axis=0).round().astype(int) + np.array(centre)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(moved.T)] = True
    return mask


def _with_lesion(anatomy: Anatomy, mask: Bool[np.ndarray, "x y z"], place: Place) -> Anatomy:
    """Add one more lesion to the brain; what lies outside its tissue is cut off."""
    look = LesionLook(place.flair_gain, place.mprage_loss, spread=0.0, edge_mm=0.6, halo=0.1)
    labels = (mask & anatomy.tissue).astype(np.int32)
    return with_lesions(anatomy, labels, look, np.random.default_rng([SEED, place.shape]))


def _acquired(
    image: Float[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    random: np.random.Generator,
) -> UInt8[np.ndarray, "x y z"]:
    """Add a weak bias field, a slight blur and noise; return whole numbers from 1 to 255."""
    bias = np.exp(0.04 * smooth_field(random, (4, 4, 4), SHAPE))
    noisy = gaussian_filter(image, 0.4) * bias + NOISE * random.standard_normal(SHAPE)
    return np.where(brain, np.clip(np.rint(noisy * WHITE_MATTER_LEVEL), 1, 255), 0).astype(np.uint8)


if __name__ == "__main__":
    main()
