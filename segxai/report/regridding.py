"""Regridding: a map on another grid, with its peaks."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from segxai.geometry import Grid
from segxai.load.resampling import SAME_PLACE, resample
from segxai.types import Attribution

RULE = (
    "interpolated linearly, not smoothed; each peak and trough keeps its value in the voxel that "
    "it lies in"
)


def regridded(
    attribution: Attribution, grid: Grid, target: Grid
) -> Shaped[np.ndarray, "*leading_and_target"]:
    """Place a map on another grid; values stay those of the map, however thick the new slices are.

    Values are interpolated linearly at the centres of the new voxels, without smoothing. A coarse
    voxel would miss what lies beside its centre, and a fine one the top of a peak: each local
    maximum above 0, and each local minimum below 0, is put into the new voxel that its centre lies
    in, where its magnitude is larger than what is there. Of several, the one of largest magnitude
    is kept; on a tie the positive one.

    Parameters
    ----------
    attribution : Attribution
        A map (channel, *box) or (*box) on `grid`.
    grid, target : Grid
        The grid of the map, and the one to place it on.

    Returns
    -------
    ndarray of shape (channel, *target) or (*target)
        float32; the same values in another order where the voxels are the same.
    """
    whole = resample(attribution.on_grid(grid.shape), grid, target, order=1, smooth=False)
    rank = len(grid.shape)
    maps = attribution.values.reshape(-1, *attribution.box.size)
    found = whole.astype(np.float32).reshape(-1, *target.shape)
    for values, onto in zip(maps, found, strict=True):
        _keep_peaks(values, np.asarray(attribution.offset), grid, onto, target)
    return found.reshape(*attribution.values.shape[:-rank], *target.shape)


def _keep_peaks(
    values: Float[np.ndarray, "*box"],
    offset: np.ndarray,
    grid: Grid,
    onto: Float[np.ndarray, "*target"],
    target: Grid,
) -> None:
    """Put the peaks and troughs of a map into the voxels of the target that they lie in."""
    around: dict[str, object] = {"size": 3, "mode": "constant"}  # a map is 0 outside its box
    is_peak = (values > 0) & (values == ndimage.maximum_filter(values, **around))
    is_trough = (values < 0) & (values == ndimage.minimum_filter(values, **around))
    places = np.argwhere(is_peak | is_trough)
    heights = values[tuple(places.T)]
    mapping = np.linalg.solve(target.affine, grid.affine)
    positions = (places + offset) @ mapping[:-1, :-1].T + mapping[:-1, -1]
    last = np.array(target.shape) - 1
    inside = (abs(positions - last / 2) <= last / 2 + 0.5 + SAME_PLACE).all(axis=1)
    order = np.lexsort((heights[inside], abs(heights[inside])))  # the last one stays
    voxels = np.clip(np.rint(positions[inside]), 0, last).astype(int)[order]
    strongest = np.zeros_like(onto)
    strongest[tuple(voxels.T)] = heights[inside][order]
    np.copyto(onto, strongest, where=abs(strongest) > abs(onto))
