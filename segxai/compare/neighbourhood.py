"""A map around its domain: the part of it that is compared, read once and kept small."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.geometry import Box, Grid
from segxai.types import Attribution

REACH_MM = 20.0  # maps are compared up to this distance from the domain; in pictures, pixels
BORDER_MM = 2.0  # voxels outside of the domain up to this distance are its border

Voxels = Int[np.ndarray, "voxel axis"]


@dataclass(frozen=True)
class Neighbourhood:
    """A map in the box around a domain, on a grid that all compared results share.

    Parameters
    ----------
    label : int
        The instance's label in its own result.
    box : Box
        Its voxels on the shared grid.
    values : ndarray of shape (channel, *box), or (*box) for a heat map
        The map.
    error : ndarray like `values`, optional
        Its standard error.
    distance : ndarray of shape (*box)
        Distance of each voxel to the domain, in mm; 0 inside.
    centre : ndarray of shape (axis,)
        The domain's centroid in voxels of the shared grid.
    """

    label: int
    box: Box
    values: Shaped[np.ndarray, "*shape"]
    error: Shaped[np.ndarray, "*shape"] | None
    distance: Float[np.ndarray, "*box"]
    centre: Float[np.ndarray, " axis"]

    @property
    def is_heat(self) -> bool:
        """Whether the map has no channels."""
        return self.values.ndim == self.distance.ndim

    def moved_to(self, other: "Neighbourhood") -> "Neighbourhood":
        """Move the map by whole voxels, so that its centre lies on another one's."""
        shift = np.rint(other.centre - self.centre).astype(int)
        start = tuple((np.array(self.box.start) + shift).tolist())
        return replace(self, box=Box(start, self.box.size), centre=self.centre + shift)

    def in_box(self, box: Box) -> "Neighbourhood":
        """Cut the map to a box inside of its own."""
        index = box.seen_from(self.box).index
        error = None if self.error is None else self.error[index]
        values, distance = self.values[index], self.distance[index]
        return replace(self, box=box, values=values, error=error, distance=distance)


def neighbourhood(
    attribution: Attribution,
    domain: Voxels,
    grid: Grid,
    *,
    place: Sequence[int],
    order: Sequence[int],
) -> Neighbourhood:
    """Cut a map to the voxels within 20 mm of a domain (20 pixels in pictures).

    Parameters
    ----------
    attribution : Attribution
        The map.
    domain : ndarray of shape (voxel, axis)
        Its domain, in voxels of `grid`, that of the map.
    place : sequence of int
        Where the grid starts on the shared one.
    order : sequence of int
        The order of channels, as their places in the map.
    """
    box = Box.around(domain).grown(REACH_MM, grid)
    outside = np.ones(box.size, dtype=bool)
    outside[tuple(box.local(domain).T)] = False
    distance = ndimage.distance_transform_edt(outside, sampling=grid.spacing)
    start = tuple((np.array(box.start) + np.array(place)).tolist())

    def cut(values: np.ndarray) -> np.ndarray:
        found = _cut(values, attribution.box, box)
        return found[list(order)] if found.ndim > len(grid.shape) else found

    error = attribution.standard_error
    return Neighbourhood(
        label=attribution.label,
        box=Box(start, box.size),
        values=cut(attribution.values),
        error=None if error is None else cut(error),
        distance=distance,
        centre=domain.mean(axis=0) + place,
    )


def _cut(values: np.ndarray, stored: Box, box: Box) -> np.ndarray:
    """Copy the part of a stored map that lies in a box; 0 outside of what is stored."""
    leading = values.shape[: values.ndim - len(box.size)]
    found = np.zeros((*leading, *box.size), dtype=values.dtype)
    common = intersection(stored, box)
    if common is not None:
        found[common.seen_from(box).index] = values[common.seen_from(stored).index]
    return found


def intersection(first: Box, second: Box) -> Box | None:
    """Return the box that two boxes share; None if they share nothing."""
    start = np.maximum(first.start, second.start)
    size = np.minimum(first.stop, second.stop) - start
    if (size <= 0).any():
        return None
    return Box(tuple(start.tolist()), tuple(size.tolist()))


def on_map_grid(domain: Voxels, domains: Grid, grid: Grid) -> Voxels:
    """Return a domain as voxels of the grid of maps: its own, or those nearest to them.

    Raises
    ------
    SegxaiError
        If it is empty.
    """
    if not len(domain):
        raise SegxaiError("a domain has no voxel, so nothing lies around it")
    if domains.shape == grid.shape and np.array_equal(domains.affine, grid.affine):
        return domain
    places = np.linalg.solve(grid.affine, domains.affine)
    nearest = np.rint(domain @ places[:-1, :-1].T + places[:-1, -1]).astype(int)
    return np.unique(np.clip(nearest, 0, np.array(grid.shape) - 1), axis=0)


def energy_shares(one: Neighbourhood) -> dict[str, Float[np.ndarray, "..."]]:
    """Compute the shares of a map's energy inside of its domain, at its border and around it.

    Energy is the sum of squares up to 20 mm from the domain. The border reaches from the domain
    2 mm outwards; around is what lies beyond.

    Returns
    -------
    dict of ndarray of shape (channel,), or () for a heat map
        The three shares sum to 1; NaN for a map of zeros.
    """
    squares = np.square(one.values, dtype=np.float64)
    zones = {
        "energy_inside": one.distance == 0,
        "energy_border": (one.distance > 0) & (one.distance <= BORDER_MM),
        "energy_around": (one.distance > BORDER_MM) & (one.distance <= REACH_MM),
    }
    parts = {name: squares[..., zone].sum(axis=-1) for name, zone in zones.items()}
    whole = sum(parts.values())
    with np.errstate(invalid="ignore"):
        return {name: np.asarray(part / whole) for name, part in parts.items()}
