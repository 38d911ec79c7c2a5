"""nnU-Net's resampling: splines, across thick slices separately from their plane.

The same steps as `resample_data_or_seg_to_shape` of nnunetv2, on the functions of scikit-image and
scipy that it calls, so that nnunetv2 and all that it needs are not needed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from skimage.transform import resize

ROUNDING = 1e-6  # of voxel sizes, relative: headers hold them as float32, oblique ones less exactly


@dataclass(frozen=True)
class Resampling:
    """How images are resampled, under the names in nnU-Net's plans.

    Parameters
    ----------
    order, order_z : int
        Order of the splines; `order_z` is for the axis across thick slices.
    force_separate_z : bool, optional
        Whether the axis of thick slices is resampled separately; if None, it is where voxels are
        longer along it than `separate_z_anisotropy_threshold` times their shortest side.
    """

    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: float = 3.0


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """Compute how many voxels of the wanted spacing fill the same extent, to the nearest."""
    sizes = zip(shape, spacing, wanted, strict=True)
    return tuple(max(1, round(old / new * count)) for count, old, new in sizes)


def resample_image(
    image: Float[np.ndarray, "channel *grid"],
    shape: Sequence[int],
    spacings: tuple[Sequence[float], Sequence[float]],
    how: Resampling,
) -> Float[np.ndarray, "channel *shape"]:
    """Resample the image to another number of voxels over the same extent, as float32.

    Parameters
    ----------
    spacings
        Present and wanted, in mm; they decide which axis is resampled separately.
    """
    if image.shape[1:] == tuple(shape):
        return image
    axis = separate_axis(*spacings, how)
    return np.stack([_channel(one, tuple(shape), axis, how) for one in image.astype(np.float64)])


def separate_axis(spacing: Sequence[float], wanted: Sequence[float], how: Resampling) -> int | None:
    """Find the axis of thick slices, which is resampled separately; None if there is none."""
    if how.force_separate_z is not None:
        return _thickest(spacing) if how.force_separate_z else None
    for steps in (spacing, wanted):
        if max(steps) / min(steps) > how.separate_z_anisotropy_threshold * (1 + ROUNDING):
            return _thickest(steps)
    return None


def _thickest(spacing: Sequence[float]) -> int | None:
    """Find the axis along which voxels are longest; None if several axes tie."""
    longest = np.isclose(spacing, max(spacing), rtol=ROUNDING, atol=0)
    return int(longest.argmax()) if longest.sum() == 1 else None


def _channel(
    volume: Float[np.ndarray, "*grid"], shape: tuple[int, ...], axis: int | None, how: Resampling
) -> Float[np.ndarray, "*shape"]:
    if axis is None:
        return _spline(volume, shape, how.order)
    slices = np.moveaxis(volume, axis, 0)
    plane = tuple(size for number, size in enumerate(shape) if number != axis)
    resized = np.stack([_spline(one, plane, how.order, kind=np.float64) for one in slices])
    if len(slices) != shape[axis]:
        resized = np.tensordot(_along(len(slices), shape[axis], how.order_z), resized, axes=1)
    return np.moveaxis(resized, 0, axis).astype(np.float32)


def _spline(
    data: Float[np.ndarray, "*grid"],
    shape: tuple[int, ...],
    order: int,
    kind: type = np.float32,
) -> Float[np.ndarray, "*shape"]:
    return np.asarray(resize(data, shape, order, mode="edge", anti_aliasing=False), dtype=kind)


def _along(size: int, new_size: int, order: int) -> Float[np.ndarray, "new old"]:
    """Build the matrix that interpolates along one axis."""
    places = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    columns = [
        ndimage.map_coordinates(unit, [places], order=order, mode="nearest")
        for unit in np.eye(size)
    ]
    return np.stack(columns, axis=1)
