"""Grids of any orientation, where their voxels lie, and made-up images on them."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy.spatial.transform import Rotation

from segxai.geometry import Grid

SHAPE = (5, 6, 7)
TOWARDS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0)}
TOWARDS |= {"S": (0, 0, 1), "I": (0, 0, -1)}
TILT = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()


def oriented(
    codes: str,
    shape: tuple[int, ...] = SHAPE,
    spacing: tuple[float, ...] = (1, 1, 1),
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Grid:
    """A grid whose voxel axes point towards `codes`, up to a turn."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([TOWARDS[code] for code in codes], dtype=float).T * spacing
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 12.25, 7)
    return Grid(shape, affine)


def positions(grid: Grid) -> Float[np.ndarray, "x y z 3"]:
    """Where each voxel of a grid lies, in mm."""
    return grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))


def noise(shape: tuple[int, ...] = SHAPE, kind: type = np.float32) -> Shaped[np.ndarray, "*shape"]:
    """A made-up image without zeros."""
    return np.random.default_rng(0).uniform(1, 200, shape).astype(kind)
