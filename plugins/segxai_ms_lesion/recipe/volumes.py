"""Images that share a grid, and how they are deformed onto another one."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]

# A box around the heads of MNI space, divisible by the network's stride.
GRID_SHAPE = (144, 176, 144)
GRID_ORIGIN_MM = (-72.0, -105.0, -64.0)
GRID_CENTRE_MM = (0.0, -17.5, 8.0)
DISPLACEMENT_KNOTS = (8, 9, 8)


@dataclass(frozen=True)
class Volume:
    """Channels on one grid of 1 mm voxels whose axes run right, anterior, superior."""

    values: Float[np.ndarray, "channel x y z"]
    origin_mm: Triple


def grid_points(
    shape: tuple[int, int, int] = GRID_SHAPE, origin_mm: Triple = GRID_ORIGIN_MM
) -> Float[np.ndarray, "x y z axis"]:
    """Millimetre position of every voxel."""
    axes = [
        start + np.arange(n, dtype=np.float32) for start, n in zip(origin_mm, shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def sample(
    volume: Volume, points_mm: Float[np.ndarray, "x y z axis"]
) -> Float[np.ndarray, "channel x y z"]:
    """Values of the volume at the points, linearly interpolated, 0 outside it."""
    last = np.array(volume.values.shape[1:], dtype=np.float32) - 1
    relative = (points_mm - np.array(volume.origin_mm, dtype=np.float32)) * (2 / last) - 1
    grid = torch.from_numpy(np.ascontiguousarray(relative[..., ::-1], dtype=np.float32))
    source = torch.from_numpy(np.ascontiguousarray(volume.values))
    found: Tensor = functional.grid_sample(
        source[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return found[0].numpy()


def deformed_points(
    random: np.random.Generator,
    *,
    scale: tuple[float, float],
    degrees: float,
    shift_mm: float,
    displacement_mm: float,
    flip: bool,
) -> Float[np.ndarray, "x y z axis"]:
    """Where each voxel of the training grid reads from, under a random smooth deformation.

    `scale` bounds the size of the result relative to its source; the other arguments bound the
    rotation about each axis, the shift and the root mean square of the elastic displacement;
    `flip` swaps left and right half of the time.
    """
    matrix = _rotation(np.radians(random.uniform(-degrees, degrees, 3)))
    matrix = matrix / (random.uniform(*scale) * random.uniform(0.96, 1.04, 3))
    if flip and random.random() < 0.5:
        matrix = matrix @ np.diag([-1.0, 1.0, 1.0])
    shift = random.uniform(-shift_mm, shift_mm, 3) + np.array(GRID_CENTRE_MM)
    points: Float[np.ndarray, "x y z axis"]
    points = (grid_points() - np.array(GRID_CENTRE_MM)) @ matrix.T + shift
    amount = random.uniform(0, displacement_mm)
    for axis in range(3):
        points[..., axis] += amount * smooth_field(random, DISPLACEMENT_KNOTS)
    return points.astype(np.float32)


def smooth_field(
    random: np.random.Generator, knots: tuple[int, int, int], shape: tuple[int, ...] = GRID_SHAPE
) -> Float[np.ndarray, "x y z"]:
    """Draw a smooth random field of mean 0 and unit variance at its knots."""
    coarse = torch.from_numpy(random.standard_normal(knots).astype(np.float32))
    fine = functional.interpolate(
        coarse[None, None], size=shape, mode="trilinear", align_corners=True
    )
    return fine[0, 0].numpy()


def _rotation(angles: Float[np.ndarray, " axis"]) -> Float[np.ndarray, "row column"]:
    """Product of the rotations about the three axes, angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
