"""Resampling: from one grid to another, exact if voxels are only reordered."""

import math

import numpy as np
from jaxtyping import Float, Shaped
from nibabel.orientations import aff2axcodes, inv_ornt_aff, io_orientation
from scipy import ndimage

from segxai.errors import SegxaiError, warn
from segxai.geometry import SAME_VOXEL, Grid
from segxai.load.limits import check_size, largest
from segxai.load.voxel_size import check_change
from segxai.text import format_shape

SAME_PLACE = 1e-3  # mm between two files, voxels between two grids: not worth a word


def working_grid(grid: Grid, spacing_mm: float = 1.0, tolerance: float = 0.01) -> Grid:
    """Find the nearest right-anterior-superior (RAS+) grid with about the given spacing.

    Axes are swapped and flipped, never rotated: an oblique image stays oblique, so that nothing is
    interpolated where the spacing is right already. An axis whose spacing is off by more than
    `tolerance` (a fraction) gets exactly `spacing_mm`, centred on, and covering, the same field of
    view.

    Raises
    ------
    SegxaiError
        If the new grid would have more voxels than the limit, or more than 100 times as many as
        before, or as few.
    """
    order = io_orientation(grid.affine)
    shape = np.array(grid.shape)[np.argsort(order[:, 0])]
    canonical = grid.affine @ inv_ornt_aff(order, grid.shape)
    spacing = np.linalg.norm(canonical[:-1, :-1], axis=0)
    step = np.where(abs(spacing / spacing_mm - 1) <= tolerance, 1.0, spacing_mm / spacing)
    size = tuple(max(1, math.ceil(length)) for length in shape / step - SAME_PLACE)
    if math.prod(size) > largest():
        raise SegxaiError(
            f"{format_shape(grid.shape)} voxels of {_spacing(grid)} would become "
            f"{format_shape(size)} voxels of {spacing_mm:g} mm, too many to hold; check the voxel "
            "size in the file's header, or give a larger --max-voxels"
        )
    change = np.diag([*step, 1.0])
    change[:-1, -1] = (shape - 1) / 2 - step * (np.array(size) - 1) / 2
    target = Grid(size, canonical @ change)
    check_change(grid, target)
    return target


def resample(
    data: Shaped[np.ndarray, "*leading_and_source"],
    source: Grid,
    target: Grid,
    *,
    order: int,
    smooth: bool = True,
) -> Shaped[np.ndarray, "*leading_and_target"]:
    """Resample data to another grid; 0 outside the field of view.

    If the target has the same voxels as the source in another order, they are only moved. Otherwise
    values are interpolated. A voxel centre in the outer half of a border voxel takes that voxel's
    value.

    Parameters
    ----------
    data : ndarray of shape (*leading, *source)
        Each leading index (a channel) is resampled by itself.
    source, target : Grid
        The grid of the data, and the grid to resample them to.
    order : int
        1 interpolates linearly and returns floats; 0 takes the nearest voxel (for labels) and keeps
        the type.
    smooth : bool
        Whether linear interpolation comes after smoothing along each axis whose step grows more
        than 1.5 times. That is for images: values become smaller where they vary.
    """
    if order not in (0, 1) or data.shape[data.ndim - len(source.shape) :] != source.shape:
        raise ValueError(f"order {order}, data of shape {data.shape} on a grid {source.shape}")
    check_size(target.shape, "the image on the network's grid")
    moved = _reordered(data, source, target)
    if moved is not None:
        return moved
    mapping = _voxel_map(target, source)
    volumes = data.reshape(-1, *source.shape)
    resampled = [_interpolated(one, mapping, target.shape, order, smooth) for one in volumes]
    leading = data.shape[: data.ndim - len(source.shape)]
    return np.stack(resampled).reshape(*leading, *target.shape)


def describe_change(source: Grid, target: Grid) -> str | None:
    """Describe what linear resampling to another grid does to an image; None if nothing."""
    parts = []
    if (before := _axis_codes(source)) != (after := _axis_codes(target)):
        parts.append(f"reoriented {before} -> {after}")
    if _reordering(source, target) is None:
        old, new = _spacing(source), _spacing(target)
        change = f"{old} -> {new}" if old != new else f"onto another grid of {new}"
        parts.append(f"resampled {change} (linear)")
    return "; ".join(parts) or None


def describe_crop(grid: Grid, part: Grid) -> str | None:
    """Describe how an image was cropped to what is not 0; None if nothing was cut off."""
    if part.shape == grid.shape:
        return None
    start = np.rint(grid.to_voxels(part.to_mm(np.zeros(len(part.shape))))).astype(int)
    return (
        f"cropped from {format_shape(grid.shape)} to {format_shape(part.shape)} voxels from voxel "
        f"{tuple(start.tolist())}, where images differ from 0"
    )


def has_same_voxels(source: Grid, target: Grid) -> bool:
    """Tell whether two grids have the same voxels, perhaps in another order."""
    return _reordering(source, target) is not None


def mismatch(first_name: str, first: Grid, name: str, grid: Grid) -> str | None:
    """Describe how two grids differ; None if they are the same, within 0.1 voxel.

    Warns
    -----
    SegxaiWarning
        If they are the same but for rounding in a header of more than 0.001 mm.
    """
    if first.shape != grid.shape:
        return f"{first_name} is {_extent(first)}, but {name} is {_extent(grid)}"
    corners = _corners(grid.shape)
    moved = grid.to_mm(corners) - first.to_mm(corners)
    distance = np.linalg.norm(moved, axis=1).max()
    if abs(moved @ np.linalg.inv(first.affine[:-1, :-1]).T).max() > SAME_VOXEL:
        return (
            f"{name} ({_extent(grid)}) lies up to {distance:.3g} mm away from {first_name} "
            f"({_extent(first)})"
        )
    if distance > SAME_PLACE:
        warn(
            f"{name} lies up to {distance:.2g} mm away from {first_name}, less than a tenth of a "
            "voxel: taken as rounding in its header, on the same grid"
        )
    return None


def _corners(shape: tuple[int, ...]) -> Float[np.ndarray, "corner axis"]:
    """Return the voxel indices of a grid's corner voxels."""
    ends = np.indices((2,) * len(shape)).reshape(len(shape), -1).T
    return np.asarray(ends * (np.array(shape) - 1.0))


def _voxel_map(start: Grid, end: Grid) -> Float[np.ndarray, "rank rank"]:
    """Compute the matrix from voxels of one grid to another's; whole numbers within rounding."""
    mapping = np.linalg.solve(end.affine, start.affine)
    whole = np.rint(mapping)
    rounding = (mapping - whole)[:-1]
    error = abs(_corners(start.shape) @ rounding[:, :-1].T + rounding[:, -1]).max()
    return np.asarray(whole if error <= SAME_PLACE else mapping)


def _reordering(source: Grid, target: Grid) -> list[tuple[int, bool]] | None:
    """Find each target axis's source axis and whether it is flipped; None if voxels differ."""
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
    smooth: bool,
) -> Shaped[np.ndarray, "*target"]:
    kind = volume.dtype
    if order == 1:
        kind = np.result_type(kind, np.float32)
        volume = volume.astype(kind)
    if order == 1 and smooth:
        volume = _smoothed(volume, mapping)
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
    """Smooth away the detail that a coarser grid would alias."""
    growth = np.linalg.norm(mapping[:-1, :-1], axis=1)  # target steps, in source voxels
    sigma = np.where(growth > 1.5, (growth - 1) / 2, 0)
    return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="nearest"))


def _spacing(grid: Grid) -> str:
    steps = [f"{step:.3g}" for step in grid.spacing]
    return f"{steps[0] if len(set(steps)) == 1 else ' x '.join(steps)} mm"


def _axis_codes(grid: Grid) -> str:
    return "".join(aff2axcodes(grid.affine))


def _extent(grid: Grid) -> str:
    return f"{format_shape(grid.shape)} voxels of {_spacing(grid)}, {_axis_codes(grid)}"
