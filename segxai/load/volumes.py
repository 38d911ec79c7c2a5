"""Volumes: 3D image files loaded as arrays on a grid. Imports no torch."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int, Shaped
from nibabel.filebasedimages import FileBasedImage, ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from segxai.errors import SegxaiError, one_line
from segxai.geometry import Grid
from segxai.load.detached import require_beside
from segxai.load.existence import not_found
from segxai.load.itk import is_for_itk, parts_of, read_with_itk, recorded_name
from segxai.load.limits import check_size, largest
from segxai.load.voxel_size import check_spacing, unit_mm
from segxai.text import format_shape
from segxai.types import Source

HDF5 = b"\x89HDF"
PART, LARGEST_VOXEL = 2**20, 16  # bytes
LARGEST_LABEL = 2**31 - 1
UNREADABLE = (
    OSError,
    EOFError,
    OverflowError,
    RuntimeError,  # raised by SimpleITK
    ValueError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)


@dataclass(frozen=True)
class Volume:
    """The values of one file as they are stored, (x, y, z) or (x, y), with their grid and file."""

    data: Float[np.ndarray, "*grid"]
    grid: Grid
    source: Source

    def __str__(self) -> str:
        """Return role and file name, for messages."""
        return f"{self.source.role} file {self.source.name}"


def load_volume(path: str | PathLike[str], role: str) -> Volume:
    """Load the 3D image in a file, as float32 in the file's own voxel order.

    Parameters
    ----------
    path : path
        NIfTI (.nii, .nii.gz) or another volume that nibabel reads; NRRD, MetaImage or a folder
        with one DICOM series, where SimpleITK is installed. Further axes must have length 1.
    role : str
        What the file is for (a channel's name); used in messages.

    Raises
    ------
    SegxaiError
        If the file is missing, unreadable or not a real-valued 3D image with a usable affine, or
        has voxels that are NaN or infinite.
    """
    (volume,) = load_stack(path, [role])
    return volume


def load_stack(
    path: str | PathLike[str], roles: Sequence[str], *, flat: bool = False
) -> list[Volume]:
    """Load the volumes in a 4D file, one for each role, as `load_volume` does.

    Parameters
    ----------
    flat : bool
        Whether it must hold 2D images, (x, y) or (x, y, 1), instead of volumes.

    Raises
    ------
    SegxaiError
        As for `load_volume`; also if the file has another number of volumes.
    """
    image, source = _open(Path(path), ", ".join(roles), len(roles), flat=flat)
    # A float64 beyond float32 becomes infinite here, and is counted below.
    with np.errstate(over="ignore"):
        data = np.asarray(_voxels(image, source), dtype=np.float32)
    _require_finite(data, source)
    grid = _grid(image, flat=flat)
    stack = np.moveaxis(data.reshape(*grid.shape, len(roles)), -1, 0)
    return [
        Volume(np.ascontiguousarray(one), grid, replace(source, role=role))
        for role, one in zip(roles, stack, strict=True)
    ]


def volumes_in(path: Path) -> int:
    """Count the volumes in a file, judging by its header; 1 unless it is 4D."""
    return math.prod(_shape_in(path)[3:])


def is_flat(path: Path) -> bool:
    """Tell whether a file holds a 2D image, (x, y) or (x, y, 1), judging by its header."""
    shape = _shape_in(path)
    return len(shape) >= 2 and (*shape, 1)[2] == 1


def _shape_in(path: Path) -> tuple[int, ...]:
    """Read the shape in the header of a file of nibabel's; () where there is none to read."""
    if not path.is_file() or is_for_itk(path) or _head(path) == HDF5:
        return ()
    try:
        return tuple(int(size) for size in getattr(nib.load(path), "shape", ()))
    except UNREADABLE:
        return ()  # whoever reads it says what is wrong


def load_labels(
    path: str | PathLike[str], role: str, *, flat: bool = False
) -> tuple[Int[np.ndarray, "*grid"], Grid, Source]:
    """Load the labels in a file (int32, in its own voxel order), with their grid and source.

    A floating-point file is fine as long as its values are whole numbers.

    Raises
    ------
    SegxaiError
        As for `load_volume`; also if a value is fractional or negative, or all are 0; a reference
        may be empty, as of a healthy control.
    """
    image, source = _open(Path(path), role, flat=flat)
    grid = _grid(image, flat=flat)
    values = _voxels(image, source).reshape(grid.shape).astype(np.float64)
    _require_finite(values, source)
    rounded = np.rint(values)  # by NIfTI scaling, 255 * (1 / 255) is slightly off
    wrong = (rounded < 0) | (rounded > LARGEST_LABEL) | (abs(values - rounded) > 1e-4)
    if wrong.any():
        voxel = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise SegxaiError(
            f"{_named(source)} is not a mask: {wrong.sum()} voxels are not whole numbers from 0 "
            f"(the first is {values[voxel]:g} at voxel {voxel}); give labels, or threshold it"
        )
    if not rounded.any() and role != "reference":
        raise SegxaiError(f"{_named(source)} is empty: every voxel is 0; give a mask with objects")
    return rounded.astype(np.int32), grid, source


def file_sha256(path: str | PathLike[str]) -> str:
    """Compute the SHA-256 of a file's bytes, in hexadecimal.

    For a folder, or a header with its voxels in another file, it is the SHA-256 of the SHA-256s of
    all its files.
    """
    found = []
    for part in parts_of(Path(path)):
        with part.open("rb") as stream:
            found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def source_of(path: Path, role: str) -> Source:
    """Return the record of a file, or of a folder that holds one image."""
    sha256 = file_sha256(path)
    return Source(role, recorded_name(path, sha256), sha256)


def _open(
    path: Path, role: str, count: int = 1, *, flat: bool = False
) -> tuple[SpatialImage, Source]:
    """Open a file as 3D or 2D images of real numbers, without reading their voxels."""
    if not path.exists():
        raise not_found(path, role)
    try:
        image = read_with_itk(path, role) if is_for_itk(path) else _read_with_nibabel(path)
        source = source_of(path, role)
    except UNREADABLE as error:
        raise _unreadable(path.name, role, error) from error
    if not isinstance(image, SpatialImage):
        raise SegxaiError(f"{role} file {path.name} holds no volume; give a 3D NIfTI (.nii.gz)")
    _require_volume(image, source, count, flat=flat)
    return image, source


def _read_with_nibabel(path: Path) -> FileBasedImage:
    """Read an image's header; check a gzip file's checksum, as nibabel stops at the last voxel."""
    if _head(path) == HDF5:  # arrays in it may lie in any file
        raise SegxaiError(f"{path.name} is of MINC 2, which is not read; convert it to NIfTI")
    image = nib.load(path)
    for holder in image.file_map.values():
        if holder.filename and Path(holder.filename) != path:
            require_beside(path, Path(holder.filename))
    check_size(getattr(image, "shape", ()), path.name)
    if path.suffix == ".gz":
        _check_gzip(path)
    return image


def _check_gzip(path: Path) -> None:
    """Read a gzip file to its end, where its checksum is, unless it is longer than any image."""
    with gzip.open(path) as stream:
        for _ in range(0, LARGEST_VOXEL * largest(), PART):
            if not stream.read(PART):
                return


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(HDF5))


def _unreadable(name: str, role: str, error: BaseException) -> SegxaiError:
    return SegxaiError(
        f"{role} file {name} cannot be read as an image ({one_line(error)}); give a 3D NIfTI "
        "(.nii, .nii.gz), and copy it again if it was cut off"
    )


def _require_volume(image: SpatialImage, source: Source, count: int, *, flat: bool) -> None:
    shape, kind = image.shape, image.get_data_dtype()
    if count > 1 and math.prod(shape[3:]) != count:
        raise SegxaiError(
            f"{_named(source)} holds {math.prod(shape[3:])} volumes for {count} channels; give a "
            "4D file with one for each, in this order, or a file for each"
        )
    axes = 2 if flat else 3
    has_axes = len(shape) >= axes and min(shape[:axes]) >= 2 and math.prod(shape[axes:3]) == 1
    if not has_axes or math.prod(shape[3:]) != count:
        what = "a 2D image, as the first file is" if flat else "a 3D volume"
        raise SegxaiError(
            f"{_named(source)} has {format_shape(shape)} voxels, which is not {what}; give one "
            "volume of a series, and all slices of a stack in one file"
        )
    if kind.kind not in "biuf":
        raise SegxaiError(
            f"{_named(source)} holds {'colours' if kind.names else kind} instead of real "
            "intensities; give a greyscale image (for complex data, the magnitude)"
        )
    if image.affine is None or not _is_usable(_grid(image, flat=flat).affine):
        raise SegxaiError(
            f"{_named(source)} has an unusable affine (singular or not finite): its voxels have no "
            "size or place in mm; convert it again from DICOM, or fix the header"
        )
    check_spacing(_grid(image, flat=flat), image.header, _named(source))


def _is_usable(affine: Float[np.ndarray, "rank rank"]) -> bool:
    if not np.isfinite(affine).all():
        return False
    axes = affine[:-1, :-1]
    steps = np.linalg.norm(axes, axis=0)
    return bool(steps.all() and abs(np.linalg.det(axes / steps)) > 1e-4)


def _voxels(image: SpatialImage, source: Source) -> Shaped[np.ndarray, "*shape"]:
    try:
        return np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise _unreadable(source.name, source.role, error) from error


def _require_finite(data: Shaped[np.ndarray, "*shape"], source: Source) -> None:
    wrong = data.size - int(np.isfinite(data).sum())
    if wrong:
        raise SegxaiError(
            f"{_named(source)} has {wrong} of {data.size} voxels that are NaN or infinite; set "
            "them to 0 if they lie in the background (FSL: fslmaths IN -nan OUT), else fix them"
        )


def _grid(image: SpatialImage, *, flat: bool = False) -> Grid:
    """Return the grid of an image, in mm; of a 2D one, in its plane."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= unit_mm(image.header)
    shape = tuple(int(size) for size in image.shape[: 2 if flat else 3])
    return Grid(shape, _in_plane(affine) if flat else affine)


def _in_plane(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """Return the affine of a 2D image: x and y of an axial one, else mm from its first pixel."""
    axes, steps = affine[:2, :2], np.linalg.norm(affine[:3, :2], axis=0)
    flat = np.diag([*steps, 1.0])
    if np.allclose(np.linalg.norm(axes, axis=0), steps, rtol=1e-3):
        flat[:2, :2], flat[:2, 2] = axes, affine[:2, 3]
    return flat


def _named(source: Source) -> str:
    return f"{source.role} file {source.name}"
