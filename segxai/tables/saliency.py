"""Numbers of one map against its domain: where its extremes lie, and how much is inside."""

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from segxai.geometry import Box, Grid
from segxai.store.refusal import values_of


def map_numbers(stored: xr.Dataset, domain_grid: Grid) -> dict[str, float]:
    """Compute the columns of a stored map that need its values.

    Parameters
    ----------
    stored : Dataset
        A map as `segxai.maps` returns it.
    domain_grid : Grid
        The grid of domains.

    Returns
    -------
    dict
        For each channel ("heat" for heat maps) `CHANNEL_inside_share`, the share of the sum of
        |map| that lies in the domain; and `CHANNEL_peak_distance_mm` and
        `CHANNEL_trough_distance_mm` ("_px" in pictures), from the centre of the voxel with the
        largest or smallest value to that of the nearest voxel of the domain. `inside_share` is that
        of all channels together. NaN where the map is 0, and of a peak or trough that there is not.
    """
    values = values_of(stored["map"]).astype(float)
    has_channels = "channel" in stored["map"].dims
    channels = stored["channel"].values.tolist() if has_channels else ["heat"]
    values = values if has_channels else values[None]
    axes = stored["map"].dims[-len(domain_grid.shape) :]
    box = Box(tuple(int(stored[axis].values[0]) for axis in axes), values.shape[1:])
    grid = Grid(box.size, stored["affine"].values)
    domain = domain_on(box, stored, grid, domain_grid)
    numbers: dict[str, float] = {}
    for channel, one in zip(channels, values, strict=True):
        for name, sign in (("peak", 1), ("trough", -1)):
            distance = _distance(sign * one, box, grid, domain)
            numbers[f"{channel}_{name}_distance_{domain_grid.length_unit}"] = distance
        numbers[f"{channel}_inside_share"] = _share(one[None], box.local(domain))
    return {**numbers, "inside_share": _share(values, box.local(domain))}


def domain_on(
    box: Box, stored: xr.Dataset, grid: Grid, domain_grid: Grid
) -> Int[np.ndarray, "voxel axis"]:
    """Find the voxels of the map's grid that a domain covers, as near as its box has them."""
    mask = stored["domain"]
    starts = [int(stored[axis].values[0]) for axis in mask.dims]
    voxels = np.argwhere(values_of(mask)) + starts
    if mask.dims == stored["map"].dims[-len(starts) :]:
        return voxels
    nearest = np.rint(grid.to_voxels(domain_grid.to_mm(voxels))).astype(int)
    inside = np.clip(nearest, box.start, np.asarray(box.stop) - 1)
    return np.unique(inside, axis=0)


def _distance(
    values: Float[np.ndarray, "*box"], box: Box, grid: Grid, domain: Int[np.ndarray, "voxel axis"]
) -> float:
    """Measure from the largest value, the first of several, to the domain; NaN if it is not > 0."""
    place = np.unravel_index(np.argmax(values), values.shape)
    if not values[place] > 0:
        return float("nan")
    centre = grid.to_mm(np.add(place, box.start))
    distance, _ = KDTree(grid.to_mm(domain)).query(centre)
    return float(distance)


def _share(
    values: Float[np.ndarray, "channel *box"], domain: Int[np.ndarray, "voxel axis"]
) -> float:
    size = np.abs(values)
    total, inside = float(size.sum()), float(size[(slice(None), *domain.T)].sum())
    return inside / total if total else float("nan")
