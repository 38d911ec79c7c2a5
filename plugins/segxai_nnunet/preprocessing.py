"""nnU-Net's preprocessing: what the plans ask for before the network sees an image."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from segxai import Box, Grid, check_change, check_size, resample, working_grid
from segxai_nnunet.normalisation import Normalised, normalise_channel
from segxai_nnunet.plans import Plans
from segxai_nnunet.resampling import new_shape, resample_image


@dataclass(frozen=True)
class Prepared:
    """An image as the network sees it.

    Parameters
    ----------
    image, grid, foreground
        The network's input, the grid that it is on, and where it is not background.
    black : tuple of float
        What background that is 0 in the files becomes in each channel.
    cropped : Grid
        The grid before resampling.
    """

    image: Float[np.ndarray, "channel *grid"]
    grid: Grid
    foreground: Bool[np.ndarray, "*grid"]
    black: tuple[float, ...]
    cropped: Grid


def prepare(raw: Float[np.ndarray, "channel x y z"], grid: Grid, plans: Plans) -> Prepared:
    """Reorder the axes of images for the network, then crop, normalise and resample, in this order.

    Parameters
    ----------
    raw : ndarray of shape (channel, x, y, z)
        Intensities as they are in the files.
    grid : Grid
        The grid of the files.

    Notes
    -----
    The voxels of the result may lie along other axes than those of the files, and in other
    directions; its affine says so. They fill the extent of the crop exactly, so that their size
    can differ a little from the spacing of the plans.
    """
    ordered = network_order(grid, plans)
    moved = resample(raw, grid, ordered, order=0)  # only reorders voxels
    inside = nonzero(moved)
    box = Box.holding(inside)
    mask = inside[box.index]
    channels = _normalised(moved[box.index], mask, plans)
    values = np.stack([one.values for one in channels])
    cropped = ordered.part(box)
    spacing = tuple(float(np.float32(step)) for step in ordered.spacing)  # as in file headers
    wanted = (*spacing[: 3 - len(plans.spacing)], *plans.spacing)
    shape = new_shape(box.size, spacing, wanted)
    check_size(shape, "the image on the network's grid")
    final = _refined(cropped, shape)
    check_change(cropped, final)
    return Prepared(
        resample_image(values, shape, (spacing, wanted), plans.resampling),
        final,
        resample(mask, cropped, final, order=0),
        tuple(one.black for one in channels),
        cropped,
    )


def network_order(grid: Grid, plans: Plans) -> Grid:
    """Reorder a grid along the network's axes: turn it to RAS if the plans do, then permute it."""
    start = working_grid(grid, tolerance=math.inf) if plans.is_reoriented else grid
    axes = list(plans.axes)
    return Grid(tuple(start.shape[axis] for axis in axes), start.affine[:, [*axes, 3]])


def nonzero(images: Float[np.ndarray, "channel *grid"]) -> Bool[np.ndarray, "*grid"]:
    """Mark where any channel differs from 0, and the holes enclosed by these voxels."""
    return np.asarray(ndimage.binary_fill_holes((images != 0).any(axis=0)))


def z_scored(
    images: Float[np.ndarray, "channel *grid"],
) -> Float[np.ndarray, "channel *grid"]:
    """Normalise each channel to standard deviations inside the mask of values other than 0."""
    inside = nonzero(images)
    channels = [normalise_channel(one, "ZScoreNormalization", inside, {}) for one in images]
    return np.stack([one.values for one in channels])


def _normalised(
    images: Float[np.ndarray, "channel *grid"], inside: Bool[np.ndarray, "*grid"], plans: Plans
) -> list[Normalised]:
    settings = zip(images, plans.schemes, plans.masks, plans.intensities, strict=True)
    return [
        normalise_channel(image, scheme, inside if is_masked else None, intensities)
        for image, scheme, is_masked, intensities in settings
    ]


def _refined(grid: Grid, shape: tuple[int, ...]) -> Grid:
    """Build the grid of another number of voxels over the same extent."""
    step = np.array(grid.shape) / shape
    change = np.diag([*step, 1.0])
    change[:-1, -1] = (step - 1) / 2
    return Grid(shape, grid.affine @ change)
