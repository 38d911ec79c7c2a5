"""Lesions: domains of a chosen size."""

import numpy as np
from jaxtyping import Int

# Off the middle, and off the multiples of the networks' strides: 43.3, 51.7, 38.2 of 96 voxels.
CENTER = np.array([0.451, 0.5385, 0.398])


def ball(patch: int, count: int) -> Int[np.ndarray, "voxel axis"]:
    """Choose the voxels of a cube that are nearest to a point, the nearest first.

    Raises
    ------
    SystemExit
        If the cube has fewer.
    """
    if count > patch**3:
        raise SystemExit(f"{count} voxels do not fit in a patch of {patch}^3")
    voxels = np.argwhere(np.ones((patch,) * 3, dtype=bool))
    distance = np.linalg.norm(voxels - CENTER * patch, axis=1)
    return voxels[np.argsort(distance, kind="stable")[:count]]


def sample(
    voxels: Int[np.ndarray, "voxel axis"], count: int, seed: int = 0
) -> Int[np.ndarray, "chosen axis"]:
    """Return all voxels, or a seeded choice of them where there are more than `count`."""
    if len(voxels) <= count:
        return voxels
    chosen = np.random.default_rng(seed).choice(len(voxels), count, replace=False)
    return voxels[np.sort(chosen)]
