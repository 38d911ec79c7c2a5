"""Sampling: the choice of the rows that are computed for a large instance, if not all are."""

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from segxai.rows.voxel_order import along_curve
from segxai.types import Instance

STRATA = ("surface", "mid", "core")
SHELL = 1.5  # in units of the smallest spacing: voxels with a face or an edge on the outside

Voxels = Int[np.ndarray, "voxel axis"]


def sample_rows(
    instance: Instance, count: int, seed: int, spacing: Sequence[float] | None = None
) -> Instance:
    """Choose `count` voxels of an instance whose rows are computed.

    The domain is divided into strata by depth below its surface, and each stratum gets its share of
    the rows. Within a stratum, the voxels are put in the order of a space-filling curve and divided
    into equal stretches. One voxel is drawn from each, so that no part is left out. Over all seeds
    every voxel is equally likely, so that a mean over the sample is unbiased. The draw depends only
    on the seed and the domain.

    Parameters
    ----------
    spacing : sequence of float, optional
        Distance between neighbouring voxels along each axis, in mm. If not given, it is the same
        along all axes.

    Returns
    -------
    Instance
        The instance with its sampled voxels. They follow the curve, stratum by stratum, so that
        every second or every fourth of them is also spread over the domain. An instance with no
        more than `count` voxels is returned as it is, and is exact.
    """
    if count >= len(instance.voxels):
        return instance
    # The domain itself is part of the seed: labels depend on what else is in the case.
    domain = crc32(instance.voxels.astype("<i8").tobytes())
    generator = np.random.default_rng(np.random.SeedSequence([seed, domain]))
    order = along_curve(instance.voxels)
    stratum = strata(instance.voxels, spacing)[order]
    picks: list[int] = []
    sizes = np.bincount(stratum, minlength=len(STRATA))
    for number, share in enumerate(_shares(sizes, count, generator.random())):
        # Rotated at random, because some stretches are one voxel longer than others.
        ring = np.roll(order[stratum == number], generator.integers(max(sizes[number], 1)))
        stretches = np.array_split(ring, share) if share else []
        picks += [generator.choice(stretch) for stretch in stretches]
    return replace(instance, sampled=np.array(picks))


def strata(voxels: Voxels, spacing: Sequence[float] | None = None) -> Int[np.ndarray, " voxel"]:
    """Return the stratum of each voxel of a domain: 0 for surface, 1 for middle, 2 for core.

    The surface is the first layer of voxels. The rest is divided at half its depth; one or both of
    its parts can be empty.
    """
    below = depth(voxels, spacing)
    shell = SHELL * min(spacing or (1.0,))
    half = (shell + below.max()) / 2
    return (below >= shell).astype(np.int64) + ((below >= shell) & (below > half))


def depth(voxels: Voxels, spacing: Sequence[float] | None = None) -> Float[np.ndarray, " voxel"]:
    """Compute the distance from each voxel of a domain to the nearest voxel outside it.

    In mm, or in voxels if no spacing is given. Everything beyond the grid is outside.
    """
    local = voxels - voxels.min(axis=0) + 1
    mask = np.zeros(local.max(axis=0) + 2, dtype=bool)
    mask[tuple(local.T)] = True
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing))[tuple(local.T)]


def rows_by_stratum(
    instance: Instance, spacing: Sequence[float] | None = None
) -> dict[str, dict[str, int]]:
    """Count the rows that are computed for a sampled instance, and its voxels, in each stratum."""
    stratum = strata(instance.voxels, spacing)
    sizes = {
        "rows": np.bincount(stratum[instance.sampled], minlength=len(STRATA)),
        "voxels": np.bincount(stratum, minlength=len(STRATA)),
    }
    return {
        name: {what: int(counts[number]) for what, counts in sizes.items()}
        for number, name in enumerate(STRATA)
    }


def _shares(
    sizes: Int[np.ndarray, " stratum"], count: int, offset: float
) -> Int[np.ndarray, " stratum"]:
    """Divide `count` rows in proportion to the sizes, rounded up or down.

    The average over offsets from 0 to 1 is exactly proportional.
    """
    edges = np.floor(count * np.cumsum(sizes) / sizes.sum() + offset)
    return np.diff(edges, prepend=0.0).astype(np.int64)
