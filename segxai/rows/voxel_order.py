"""The order of voxels: nearby voxels stay together, so that they can share work."""

import numpy as np
from jaxtyping import Int


def along_curve(voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, " voxel"]:
    """Return the indices that put voxels in the order of a Morton curve.

    A voxel's place on the curve is the number made by interleaving the bits of its coordinates. The
    curve fills blocks of 2, 4, 8 and so on voxels along each axis before it leaves them.
    """
    local = voxels - voxels.min(axis=0)
    place = np.zeros(len(voxels), dtype=np.int64)
    axes = local.shape[1]
    for bit in range(63 // axes):
        for axis in range(axes):
            place |= ((local[:, axis] >> bit) & 1) << (bit * axes + axis)
    return np.argsort(place, kind="stable")


def compactly(
    voxels: Int[np.ndarray, "voxel axis"], members: Int[np.ndarray, " _"]
) -> Int[np.ndarray, " _"]:
    """Order members (indices of voxels) so that groups of 2, 4, 8 and so on lie in small boxes.

    They are divided in two across the longest axis, again and again. The size of the first part is
    the largest possible power of two, so the first 8, the second 8 and so on are parts themselves.
    """
    if len(members) < 3:
        return members
    inner = voxels[members]
    order = np.argsort(inner[:, np.ptp(inner, axis=0).argmax()], kind="stable")
    cut = 1 << (len(members) - 1).bit_length() - 1
    parts = (members[order[:cut]], members[order[cut:]])
    return np.concatenate([compactly(voxels, part) for part in parts])
