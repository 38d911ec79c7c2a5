"""The training data, and the one door through which the recipe opens it.

Patient 26 is the test: no function here opens a file of that patient.
"""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float

from segxai_ms_lesion.recipe.volumes import Triple, Volume

TEST_PATIENT = 26
TRAINING_PATIENT = 7
HELD_OUT_MASKS = (2, 8, 15, 17, 25)
EMBEDDED_CASE_MASK = 28


class ReservedPatientError(Exception):
    """The recipe asked for a file of the test patient."""


def open_volume(path: Path) -> Volume:
    """One channel read from a NIfTI file, turned to RAS.

    Raises
    ------
    ReservedPatientError
        If any part of the path, or of what it links to, names the test patient.
    ValueError
        If the voxels are not 1 mm along the axes.
    """
    numbers = {int(found) for found in re.findall(r"patient(\d+)", f"{path} {path.resolve()}")}
    if TEST_PATIENT in numbers:
        raise ReservedPatientError(f"{path} belongs to patient {TEST_PATIENT}, kept for the test")
    image = nib.as_closest_canonical(nib.load(path))
    if not np.allclose(image.affine[:3, :3], np.eye(3)):
        raise ValueError(f"{path} is not on a 1 mm grid along the axes")
    values = np.asarray(image.dataobj, dtype=np.float32)[None]
    return Volume(values, _origin_mm(image.affine))


def mask_path(data: Path, number: int) -> Path:
    """Where the lesion mask of a patient lies in the open_ms folder."""
    return data / "lesion_masks_mni" / f"patient{number:02d}.nii.gz"


def training_mask_numbers(data: Path) -> list[int]:
    """Patients whose lesion shapes are trained on: neither test, held out, nor embedded.

    The training patient's own lesions are learnt in place, so its mask is left out here as well.
    """
    names = sorted(path.name for path in (data / "lesion_masks_mni").glob("patient*.nii.gz"))
    numbers = [int(name.removeprefix("patient").split(".")[0]) for name in names]
    reserved = {TEST_PATIENT, TRAINING_PATIENT, EMBEDDED_CASE_MASK, *HELD_OUT_MASKS}
    return [number for number in numbers if number not in reserved]


def open_masks(data: Path, numbers: tuple[int, ...]) -> list[Volume]:
    """Lesion masks of the patients asked for, values 0 and 1."""
    return [open_volume(mask_path(data, number)) for number in numbers]


def open_training_patient(data: Path) -> tuple[Volume, Volume, Bool[np.ndarray, "x y z"]]:
    """FLAIR, MPRAGE and lesions of the training patient."""
    folder = data / f"patient{TRAINING_PATIENT:02d}"
    lesions = open_volume(folder / "gt.nii.gz").values[0] > 0
    return open_volume(folder / "flair.nii.gz"), open_volume(folder / "t1.nii.gz"), lesions


def open_template() -> tuple[Volume, Float[np.ndarray, "x y z"], Float[np.ndarray, "x y z"]]:
    """T1 (0 outside the brain), grey and white matter maps of the ICBM 152 template."""
    from nilearn import datasets  # imports scikit-learn: seconds

    template = datasets.load_mni152_template(resolution=1)
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    values = template.get_fdata(dtype=np.float32)[None]
    return Volume(values, _origin_mm(template.affine)), grey, white


def _origin_mm(affine: Float[np.ndarray, "4 4"]) -> Triple:
    """Position of the first voxel."""
    first, second, third = affine[:3, 3].tolist()
    return first, second, third
