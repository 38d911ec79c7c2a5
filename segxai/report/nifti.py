"""NIfTI: arrays on their grids, written for other programs."""

from os import PathLike
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped

from segxai.errors import SegxaiError, one_line
from segxai.geometry import Grid


def save_volume(path: str | PathLike[str], data: Shaped[np.ndarray, "*grid"], grid: Grid) -> None:
    """Write an array on its grid as NIfTI: integer types as integers, all else as float32.

    Raises
    ------
    SegxaiError
        If the name does not end in .nii or .nii.gz, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise SegxaiError(f"cannot write {path}: volumes are NIfTI, end the name in .nii.gz")
    kind = {"f": np.float32, "b": np.uint8}.get(data.dtype.kind, np.int32)
    image = nib.Nifti1Image(data.astype(kind), grid.affine)
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    image.header.set_xyzt_units("mm")
    try:
        nib.save(image, path)
    except OSError as error:
        raise SegxaiError(f"cannot write {path}: {one_line(error)}") from error
