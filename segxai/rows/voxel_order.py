"""Order: which voxels stay together, so that those that are near share what they can share."""

import numpy as np
from jaxtyping import Int


def along_curve(voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, " voxel"]:
    """Indices that put voxels into the order of a Morton curve.

    The place on the curve is the number that the bits of the coordinates make, interleaved; it
    fills blocks of 2, 4, 8 and so on voxels along each axis before it leaves them.
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
    """Members (indices of voxels) in an order in which any 2, 4, 8 and so on lie in a small box.

    Cut in two across the longest axis, again and again. The first part is as large a power of two
    as possible, so every stretch of 8 from the first, second, third 8 is a part of its own.
    """
    if len(members) < 3:
        return members
    inner = voxels[members]
    order = np.argsort(inner[:, np.ptp(inner, axis=0).argmax()], kind="stable")
    cut = 1 << (len(members) - 1).bit_length() - 1
    parts = (members[order[:cut]], members[order[cut:]])
    return np.concatenate([compactly(voxels, part) for part in parts])
