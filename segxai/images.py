"""Load: image files as arrays on a grid, and from one grid to another. No torch here."""

import difflib
import gzip
import hashlib
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int, Shaped
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import aff2axcodes, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError, SpatialImage
from scipy import ndimage

from segxai.errors import SegxaiError, one_line
from segxai.types import Grid, Source

SAME_PLACE = 1e-3  # mm between two files, voxels between two grids: rounding in headers is below
LARGEST_LABEL = 2**31 - 1
LARGEST_GRID = 2**30  # voxels; 4 GiB as float32
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)


@dataclass(frozen=True)
class Volume:
    """The numbers of one 3D file as they are stored there, their grid, and the file."""

    data: Float[np.ndarray, "x y z"]
    grid: Grid
    source: Source

    def __str__(self) -> str:
        """Role and file name, for messages."""
        return f"{self.source.role} file {self.source.name}"


def load_volume(path: str | PathLike[str], role: str) -> Volume:
    """The 3D image in a file, as float32 in the file's own voxel order.

    Parameters
    ----------
    path : path
        NIfTI (.nii, .nii.gz) or another volume that nibabel reads; further axes must have length 1.
    role : str
        What the file is for (a channel's name); used in messages.

    Raises
    ------
    SegxaiError
        If the file is missing, unreadable or not a real-valued 3D image with a usable affine, or
        has voxels that are NaN or infinite.
    """
    image, source = _open(Path(path), role)
    # A float64 beyond float32 becomes infinite here, and is counted below.
    with np.errstate(over="ignore"):
        data = np.asarray(_voxels(image, source), dtype=np.float32)
    _require_finite(data, source)
    return Volume(data, _grid(image), source)


def load_labels(
    path: str | PathLike[str], role: str
) -> tuple[Int[np.ndarray, "x y z"], Grid, Source]:
    """The labels in a file (int32, in the file's own voxel order), their grid, and the file.

    A floating-point file is fine as long as its values are whole numbers.

    Raises
    ------
    SegxaiError
        As `load_volume`; also if a value is fractional or negative, or all are 0.
    """
    image, source = _open(Path(path), role)
    values = _voxels(image, source).astype(np.float64)
    _require_finite(values, source)
    rounded = np.rint(values)  # NIfTI scaling leaves 255 * (1 / 255) off by its rounding
    wrong = (rounded < 0) | (rounded > LARGEST_LABEL) | (abs(values - rounded) > 1e-4)
    if wrong.any():
        voxel = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise SegxaiError(
            f"{_named(source)} is not a mask: {wrong.sum()} voxels are not whole numbers from 0 "
            f"(the first is {values[voxel]:g} at voxel {voxel}); give labels, or threshold it"
        )
    if not rounded.any():
        raise SegxaiError(f"{_named(source)} is empty: every voxel is 0; give a mask with objects")
    return rounded.astype(np.int32), _grid(image), source


def check_same_grid(*located: Volume | tuple[str, Grid]) -> None:
    """Nothing, if all lie on one grid: equal shapes, corners within 0.001 mm of the first's.

    Parameters
    ----------
    *located : Volume or (role, Grid)
        What must fit together.

    Raises
    ------
    SegxaiError
        Naming the first that does not fit.
    """
    named = [(str(x), x.grid) if isinstance(x, Volume) else x for x in located]
    for name, grid in named[1:]:
        problem = _mismatch(*named[0], name, grid)
        if problem:
            raise SegxaiError(
                f"{problem}: files of one case must share a grid; register and resample one onto "
                "the other (elastix, ANTs, FSL flirt) and give the result"
            )


def check_varies(volume: Volume) -> None:
    """Nothing, if the volume has at least two different values.

    Raises
    ------
    SegxaiError
        If every voxel is the same: a channel without a picture.
    """
    first = volume.data.flat[0]
    if bool((volume.data == first).all()):
        raise SegxaiError(
            f"{volume} has the same value {first:g} in every voxel, so there is no image in it; "
            "give the right file"
        )


def working_grid(grid: Grid, spacing_mm: float = 1.0, tolerance: float = 0.01) -> Grid:
    """The nearest right-anterior-superior (RAS+) grid with about the given spacing.

    Axes are swapped and flipped, never turned: an oblique image stays oblique, so that nothing is
    interpolated where the spacing is right already. An axis whose spacing is off by more than
    `tolerance` (a fraction) gets exactly `spacing_mm`, centred on, and covering, the same field of
    view.

    Raises
    ------
    SegxaiError
        If the new grid would have more than 2**30 voxels.
    """
    order = io_orientation(grid.affine)
    shape = np.array(grid.shape)[np.argsort(order[:, 0])]
    canonical = grid.affine @ inv_ornt_aff(order, grid.shape)
    spacing = np.linalg.norm(canonical[:-1, :-1], axis=0)
    step = np.where(abs(spacing / spacing_mm - 1) <= tolerance, 1.0, spacing_mm / spacing)
    size = tuple(max(1, math.ceil(length)) for length in shape / step - SAME_PLACE)
    if math.prod(size) > LARGEST_GRID:
        raise SegxaiError(
            f"{_shape(grid.shape)} voxels of {_spacing(grid)} would become {_shape(size)} voxels "
            f"of {spacing_mm:g} mm, too many to hold; check the voxel size in the file's header"
        )
    change = np.diag([*step, 1.0])
    change[:-1, -1] = (shape - 1) / 2 - step * (np.array(size) - 1) / 2
    return Grid(size, canonical @ change)


def resample(
    data: Shaped[np.ndarray, "*leading_and_source"], source: Grid, target: Grid, *, order: int
) -> Shaped[np.ndarray, "*leading_and_target"]:
    """The data on another grid; 0 outside of the field of view.

    Where the target has the source's own voxels in another order, they are moved and nothing is
    computed. Else they are interpolated, and smoothed first along an axis whose step grows more
    than 1.5 times. A voxel centre in the outer half of a border voxel takes that voxel's value.

    Parameters
    ----------
    data : ndarray of shape (*leading, *source)
        Each leading index (a channel) is resampled by itself.
    source, target : Grid
        Where the data lie, and where they are wanted.
    order : int
        1 interpolates linearly and gives floats; 0 takes the nearest voxel (labels) and keeps the
        type.
    """
    if order not in (0, 1) or data.shape[data.ndim - len(source.shape) :] != source.shape:
        raise ValueError(f"order {order}, data of shape {data.shape} on a grid {source.shape}")
    moved = _reordered(data, source, target)
    if moved is not None:
        return moved
    mapping = _voxel_map(target, source)
    volumes = data.reshape(-1, *source.shape)
    resampled = [_interpolated(volume, mapping, target.shape, order) for volume in volumes]
    leading = data.shape[: data.ndim - len(source.shape)]
    return np.stack(resampled).reshape(*leading, *target.shape)


def describe_change(source: Grid, target: Grid) -> str | None:
    """What going from one grid to the other does to a linear image, in words; None if nothing."""
    parts = []
    if (before := _axis_codes(source)) != (after := _axis_codes(target)):
        parts.append(f"reoriented {before} -> {after}")
    if _reordering(source, target) is None:
        old, new = _spacing(source), _spacing(target)
        change = f"{old} -> {new}" if old != new else f"onto another grid of {new}"
        parts.append(f"resampled {change} (linear)")
    return "; ".join(parts) or None


def save_volume(path: str | PathLike[str], data: Shaped[np.ndarray, "*grid"], grid: Grid) -> None:
    """Write an array on its grid as NIfTI: whole numbers as integers, all else as float32.

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


def file_sha256(path: str | PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _open(path: Path, role: str) -> tuple[SpatialImage, Source]:
    """The file as a 3D image of real numbers whose voxels are not read yet."""
    if not path.is_file():
        raise _not_a_file(path, role)
    try:
        _read_to_the_end(path)
        image = nib.load(path)
        source = Source(role, path.name, file_sha256(path))
    except UNREADABLE as error:
        raise _unreadable(path.name, role, error) from error
    if not isinstance(image, SpatialImage):
        raise SegxaiError(f"{role} file {path.name} holds no volume; give a 3D NIfTI (.nii.gz)")
    _require_volume(image, source)
    return image, source


def _read_to_the_end(path: Path) -> None:
    """Check a gzip file's checksum, which nibabel leaves unread: it stops at the last voxel."""
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            while stream.read(2**20):
                pass


def _not_a_file(path: Path, role: str) -> SegxaiError:
    if path.is_dir():
        return SegxaiError(f"{role} {path} is a folder; give the image file in it (NIfTI, .nii.gz)")
    if not path.parent.is_dir():
        return SegxaiError(f"{role} file {path} not found: there is no folder {path.parent}")
    names = [other.name for other in path.parent.iterdir()]
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "no name in its folder is similar"
    return SegxaiError(f"{role} file {path} not found; {hint}")


def _unreadable(name: str, role: str, error: BaseException) -> SegxaiError:
    return SegxaiError(
        f"{role} file {name} cannot be read as an image ({one_line(error)}); give a 3D NIfTI "
        "(.nii, .nii.gz), and copy it again if it was cut off"
    )


def _require_volume(image: SpatialImage, source: Source) -> None:
    shape, kind = image.shape, image.get_data_dtype()
    if len(shape) < 3 or max(shape[3:], default=1) > 1 or min(shape[:3]) < 2:
        raise SegxaiError(
            f"{_named(source)} has {_shape(shape)} voxels, which is not a 3D volume; give one "
            "volume of a series, and all slices of a stack in one file"
        )
    if kind.kind not in "biuf":
        raise SegxaiError(
            f"{_named(source)} holds {'colours' if kind.names else kind} instead of real "
            "intensities; give a greyscale (for complex data, the magnitude) image"
        )
    if not _is_usable(image.affine):
        raise SegxaiError(
            f"{_named(source)} has an unusable affine (singular or not finite): its voxels have no "
            "size or place in mm; convert it again from DICOM, or mend the header"
        )


def _is_usable(affine: Float[np.ndarray, "4 4"] | None) -> bool:
    if affine is None or not np.isfinite(affine).all():
        return False
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(steps.all() and abs(np.linalg.det(affine[:3, :3] / steps)) > 1e-4)


def _voxels(image: SpatialImage, source: Source) -> Shaped[np.ndarray, "x y z"]:
    try:
        return np.asanyarray(image.dataobj).reshape(image.shape[:3])
    except UNREADABLE as error:
        raise _unreadable(source.name, source.role, error) from error


def _require_finite(data: Shaped[np.ndarray, "x y z"], source: Source) -> None:
    wrong = data.size - int(np.isfinite(data).sum())
    if wrong:
        raise SegxaiError(
            f"{_named(source)} has {wrong} of {data.size} voxels that are NaN or infinite; set "
            "them to 0 if they lie in the background (FSL: fslmaths IN -nan OUT), else mend them"
        )


def _grid(image: SpatialImage) -> Grid:
    shape = tuple(int(size) for size in image.shape[:3])
    return Grid(shape, np.array(image.affine, dtype=np.float64))


def _mismatch(first_name: str, first: Grid, name: str, grid: Grid) -> str | None:
    if first.shape != grid.shape:
        return f"{first_name} is {_extent(first)}, but {name} is {_extent(grid)}"
    corners = _corners(grid.shape)
    distance = np.linalg.norm(first.to_mm(corners) - grid.to_mm(corners), axis=1).max()
    if distance <= SAME_PLACE:
        return None
    return (
        f"{name} ({_extent(grid)}) lies up to {distance:.3g} mm away from {first_name} "
        f"({_extent(first)})"
    )


def _corners(shape: tuple[int, ...]) -> Float[np.ndarray, "corner axis"]:
    """The voxel indices of a grid's corner voxels."""
    ends = np.indices((2,) * len(shape)).reshape(len(shape), -1).T
    return np.asarray(ends * (np.array(shape) - 1.0))


def _voxel_map(start: Grid, end: Grid) -> Float[np.ndarray, "rank rank"]:
    """The matrix from voxels of one grid to voxels of another; whole numbers within rounding."""
    mapping = np.linalg.solve(end.affine, start.affine)
    whole = np.rint(mapping)
    rounding = (mapping - whole)[:-1]
    error = abs(_corners(start.shape) @ rounding[:, :-1].T + rounding[:, -1]).max()
    return np.asarray(whole if error <= SAME_PLACE else mapping)


def _reordering(source: Grid, target: Grid) -> list[tuple[int, bool]] | None:
    """For each target axis, its source axis and whether it is flipped; None if voxels differ."""
    mapping = _voxel_map(target, source)
    steps, first = mapping[:-1, :-1], mapping[:-1, -1]
    last = steps @ (np.array(target.shape) - 1) + first
    is_permutation = np.isin(abs(steps), (0, 1)).all() and (abs(steps).sum(axis=0) == 1).all()
    covers = (
        np.sort([first, last], axis=0) == [np.zeros(len(last)), np.array(source.shape) - 1]
    ).all()
    if not (is_permutation and covers):
        return None
    axes = abs(steps).argmax(axis=0)
    return [(int(axis), bool(steps[axis, i] < 0)) for i, axis in enumerate(axes)]


def _reordered(
    data: Shaped[np.ndarray, "*all"], source: Grid, target: Grid
) -> Shaped[np.ndarray, "*moved"] | None:
    reordering = _reordering(source, target)
    if reordering is None:
        return None
    leading = data.ndim - len(reordering)
    axes = [*range(leading), *(leading + axis for axis, _ in reordering)]
    flips = [leading + i for i, (_, is_flipped) in enumerate(reordering) if is_flipped]
    return np.asarray(
        np.flip(data.transpose(axes), tuple(flips)).copy()
    )  # torch takes no negative strides


def _interpolated(
    volume: Shaped[np.ndarray, "*source"],
    mapping: Float[np.ndarray, "rank rank"],
    shape: tuple[int, ...],
    order: int,
) -> Shaped[np.ndarray, "*target"]:
    kind = volume.dtype
    if order == 1:
        kind = np.result_type(kind, np.float32)
        volume = _smoothed(volume.astype(kind), mapping)
    number = np.uint8 if kind.kind == "b" else kind  # scipy interpolates no booleans
    steps, shift = mapping[:-1, :-1], mapping[:-1, -1]
    moved = ndimage.affine_transform(
        volume.astype(number), steps, shift, shape, order=order, mode="nearest"
    )
    for step, start, size in zip(steps, shift, volume.shape, strict=True):
        axes = np.ogrid[tuple(slice(n) for n in shape)]
        position = start + sum(s * axis for s, axis in zip(step, axes, strict=True))
        moved[(position < -0.5 - SAME_PLACE) | (position > size - 0.5 + SAME_PLACE)] = 0
    return np.asarray(moved.astype(kind))


def _smoothed(
    volume: Float[np.ndarray, "*grid"], mapping: Float[np.ndarray, "rank rank"]
) -> Float[np.ndarray, "*grid"]:
    """The volume without the detail that a coarser grid would alias."""
    growth = np.linalg.norm(mapping[:-1, :-1], axis=1)  # target steps, in source voxels
    sigma = np.where(growth > 1.5, (growth - 1) / 2, 0)
    return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="nearest"))


def _named(source: Source) -> str:
    return f"{source.role} file {source.name}"


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _spacing(grid: Grid) -> str:
    steps = [f"{step:.3g}" for step in grid.spacing]
    return f"{steps[0] if len(set(steps)) == 1 else ' x '.join(steps)} mm"


def _axis_codes(grid: Grid) -> str:
    return "".join(aff2axcodes(grid.affine))


def _extent(grid: Grid) -> str:
    return f"{_shape(grid.shape)} voxels of {_spacing(grid)}, {_axis_codes(grid)}"
