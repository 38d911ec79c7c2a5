"""Geometry: grids of voxels in space, boxes on them, and balls."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from segxai.errors import SegxaiError

AXES = {1: ("x",), 2: ("y", "x"), 3: ("x", "y", "z")}
ROUNDING = 1e-6  # mm, or voxels: a point on the surface of a ball counts as inside
SAME_VOXEL = 0.1  # of a voxel between two grids: rounding in headers is less


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels in space.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along each axis.
    affine : ndarray of shape (axis + 1, axis + 1)
        Maps homogeneous voxel indices to millimetres (pixels, for an image without a scale).
    """

    shape: tuple[int, ...]
    affine: Float[np.ndarray, "rank rank"]

    @classmethod
    def unit(cls, shape: tuple[int, ...]) -> "Grid":
        """Build the grid of a bare array: spacing 1, origin at the first voxel."""
        return cls(tuple(int(size) for size in shape), np.eye(len(shape) + 1))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[len(self.shape)]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each axis, in mm."""
        return tuple(float(step) for step in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, in mm3 (area in 2D)."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    @property
    def length_unit(self) -> str:
        """The unit of distances: "mm", or "px" in a picture."""
        return "mm" if len(self.shape) == 3 else "px"

    @property
    def volume_unit(self) -> str:
        """The unit of volumes: "mm3", or "px" for the areas of a picture."""
        return "mm3" if len(self.shape) == 3 else "px"

    def volume_in_words(self, volume_mm3: float) -> str:
        """Format a volume for a message; in a picture it is an area."""
        return f"{volume_mm3:.6g} {self.volume_unit}"

    def to_mm(
        self, voxels: Shaped[np.ndarray, "*points axis"]
    ) -> Float[np.ndarray, "*points axis"]:
        """Convert voxel indices (may be fractional) to positions in mm."""
        return np.asarray(voxels) @ self.affine[:-1, :-1].T + self.affine[:-1, -1]

    def to_voxels(self, mm: Float[np.ndarray, "*points axis"]) -> Float[np.ndarray, "*points axis"]:
        """Convert positions in mm to voxel indices (fractional)."""
        return (np.asarray(mm) - self.affine[:-1, -1]) @ np.linalg.inv(self.affine[:-1, :-1]).T

    def part(self, box: "Box") -> "Grid":
        """Return the grid of the voxels in a box of this one."""
        affine = self.affine.copy()
        affine[:-1, -1] = self.to_mm(np.array(box.start))
        return Grid(box.size, affine)

    def place_on(self, other: "Grid") -> tuple[int, ...] | None:
        """Find the voxel of another grid that the first voxel of this one is.

        One may be a crop of the other. None if their voxels are not the same, within 0.1 voxel.
        """
        if len(self.shape) != len(other.shape):
            return None
        mapping = np.linalg.solve(other.affine, self.affine)
        first = np.rint(mapping[:-1, -1])
        exact = np.eye(len(mapping))
        exact[:-1, -1] = first
        ends = np.indices((2,) * len(self.shape)).reshape(len(self.shape), -1).T
        corners = np.c_[ends * (np.array(self.shape) - 1.0), np.ones(len(ends))]
        if abs((mapping - exact) @ corners.T).max() > SAME_VOXEL:
            return None
        return tuple(int(start) for start in first)


@dataclass(frozen=True)
class Box:
    """A block of voxels with its faces along the axes; may reach outside of the grid.

    Parameters
    ----------
    start, size : tuple of int
        First voxel (negative outside of the grid) and number of voxels along each axis.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Iterable[int]) -> "Box":
        """Return the box that covers a whole grid of this shape."""
        size = tuple(int(n) for n in shape)
        return cls((0,) * len(size), size)

    @classmethod
    def spanning(cls, boxes: Iterable["Box"]) -> "Box":
        """Return the smallest box that holds all of the boxes."""
        ends = [(box.start, box.stop) for box in boxes]
        start = np.min([first for first, _ in ends], axis=0)
        stop = np.max([last for _, last in ends], axis=0)
        return cls(tuple(start.tolist()), tuple((stop - start).tolist()))

    @classmethod
    def around(cls, voxels: Int[np.ndarray, "voxel axis"]) -> "Box":
        """Return the smallest box that holds all of the voxels."""
        start, last = voxels.min(axis=0), voxels.max(axis=0)
        return cls(tuple(start.tolist()), tuple((last - start + 1).tolist()))

    @classmethod
    def holding(cls, mask: Bool[np.ndarray, "*grid"]) -> "Box":
        """Return the smallest box that holds all of a mask; the whole grid if it is empty."""
        if not mask.any():
            return cls.whole(mask.shape)
        others = [tuple(a for a in range(mask.ndim) if a != axis) for axis in range(mask.ndim)]
        ends = [np.flatnonzero(mask.any(axis=axes))[[0, -1]].tolist() for axes in others]
        return cls(tuple(a for a, _ in ends), tuple(b - a + 1 for a, b in ends))

    @property
    def stop(self) -> tuple[int, ...]:
        """The first voxel behind the box, along each axis."""
        return tuple(a + n for a, n in zip(self.start, self.size, strict=True))

    @property
    def index(self) -> Any:
        """An index that cuts the box out of the last axes of an array; for boxes on the grid."""
        return (..., *(slice(a, b) for a, b in zip(self.start, self.stop, strict=True)))

    def inside(self, shape: Iterable[int]) -> "Box":
        """Cut the box to the part that lies on a grid of this shape."""
        start = tuple(max(a, 0) for a in self.start)
        stop = tuple(min(b, n) for b, n in zip(self.stop, shape, strict=True))
        return Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def grown(self, reach_mm: float, grid: Grid) -> "Box":
        """Return the box of all voxels of a grid up to this distance from it along each axis."""
        more = [math.ceil(reach_mm / step) for step in grid.spacing]
        start = tuple(a - n for a, n in zip(self.start, more, strict=True))
        size = tuple(n + 2 * m for n, m in zip(self.size, more, strict=True))
        return Box(start, size).inside(grid.shape)

    def seen_from(self, other: "Box") -> "Box":
        """Return the same block, counted from the first voxel of another box."""
        return Box(tuple(a - o for a, o in zip(self.start, other.start, strict=True)), self.size)

    def contains(self, voxels: Int[np.ndarray, "voxel axis"]) -> Bool[np.ndarray, " voxel"]:
        """Tell which of the voxels lie in the box."""
        local = self.local(voxels)
        return np.all((local >= 0) & (local < np.asarray(self.size)), axis=1)

    def local(self, voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, "voxel axis"]:
        """Return the voxels, counted from the first voxel of the box."""
        return voxels - np.asarray(self.start)

    def flat(self, voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, " voxel"]:
        """Return the positions of the voxels in a flattened array of the box's size."""
        return np.ravel_multi_index(tuple(self.local(voxels).T), self.size)


def ball(
    centre: Float[np.ndarray, " axis"], radius_mm: float, grid: Grid
) -> Int[np.ndarray, "voxel axis"]:
    """Find the voxels of a grid whose centres lie within a radius of a position in mm.

    Raises
    ------
    SegxaiError
        If there is none, the radius is negative, or a number is not finite.
    """
    known = centre.shape == (len(grid.shape),) and np.isfinite([*centre, radius_mm]).all()
    if not known or radius_mm < 0:
        raise SegxaiError(
            f"a sphere at {_position(centre)} mm of radius {radius_mm:g} mm: give "
            f"{len(grid.shape)} finite coordinates for this image, and a radius of 0 or more"
        )
    voxels = _within(grid, centre, radius_mm)
    if len(voxels) == 0:
        raise SegxaiError(
            f"no voxel centre lies within {radius_mm:g} mm of {_position(centre)} mm; "
            f"{_extent_mm(grid)}"
        )
    return voxels


def _within(
    grid: Grid, centre_mm: Float[np.ndarray, " axis"], radius_mm: float
) -> Int[np.ndarray, "voxel axis"]:
    """Find the voxels whose centres lie within the radius, in C order."""
    to_voxels = np.linalg.inv(grid.affine[:-1, :-1])
    centre = to_voxels @ (centre_mm - grid.affine[:-1, -1])
    # A ball reaches along an axis of voxels as far as that row of the inverse is long.
    reach = radius_mm * np.linalg.norm(to_voxels, axis=1) + ROUNDING
    first = np.maximum(np.ceil(centre - reach), 0).astype(np.int64)
    stop = np.minimum(np.floor(centre + reach) + 1, grid.shape).astype(np.int64)
    size = np.maximum(stop - first, 0)
    near = np.indices(tuple(size.tolist())).reshape(len(size), -1).T + first
    distance = np.linalg.norm(grid.to_mm(near.astype(float)) - centre_mm, axis=1)
    return near[distance <= radius_mm + ROUNDING]


def _position(point: Float[np.ndarray, "..."]) -> str:
    return f"({', '.join(f'{x:g}' for x in point.ravel())})"


def _extent_mm(grid: Grid) -> str:
    """Describe where a grid's voxel centres lie, for a message."""
    ends = np.indices((2,) * len(grid.shape)).reshape(len(grid.shape), -1).T
    corners = grid.to_mm(ends * (np.array(grid.shape) - 1.0))
    return f"the image reaches from {_position(corners.min(0))} to {_position(corners.max(0))} mm"
