"""Sample: which rows of a large instance are computed, where not all of them are."""

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from segxai.rows.voxel_order import along_curve
from segxai.types import Instance

STRATA = ("surface", "mid", "core")
SHELL = 1.5  # in units of the smallest spacing: a face or an edge away from the outside

Voxels = Int[np.ndarray, "voxel axis"]


def sample_rows(
    instance: Instance, count: int, seed: int, spacing: Sequence[float] | None = None
) -> Instance:
    """The instance with `count` of its voxels chosen for rows.

    The domain is cut into strata by depth below its surface, and each stratum gets its share of
    the rows. Within a stratum the voxels are put in the order of a space-filling curve and cut
    into equal stretches; one voxel is drawn from each, so that no part is left out. Over all seeds
    every voxel is as likely as any other: a mean over the sample is not biased. The draw depends
    on the seed and the domain alone.

    Parameters
    ----------
    spacing : sequence of float, optional
        Distance between neighbouring voxels along each axis, in mm; the same along all axes if
        not given.

    Returns
    -------
    Instance
        Its sampled voxels follow the curve, stratum by stratum, so that every second or every
        fourth of them is spread over the domain, too. The instance as it is, and exact, if it has
        no more voxels than `count`.
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
        # Rolled round, because some stretches are one voxel longer than others.
        ring = np.roll(order[stratum == number], generator.integers(max(sizes[number], 1)))
        stretches = np.array_split(ring, share) if share else []
        picks += [generator.choice(stretch) for stretch in stretches]
    return replace(instance, sampled=np.array(picks))


def strata(voxels: Voxels, spacing: Sequence[float] | None = None) -> Int[np.ndarray, " voxel"]:
    """The stratum of each voxel of a domain: 0 for the surface, 1 for the middle, 2 for the core.

    The surface is the first layer of voxels. What lies below is cut at half of its depth; one or
    both of its parts can be empty.
    """
    below = depth(voxels, spacing)
    shell = SHELL * min(spacing or (1.0,))
    half = (shell + below.max()) / 2
    return (below >= shell).astype(np.int64) + ((below >= shell) & (below > half))


def depth(voxels: Voxels, spacing: Sequence[float] | None = None) -> Float[np.ndarray, " voxel"]:
    """Distance from each voxel of a domain to the nearest voxel outside of it.

    In mm; in voxels without a spacing. What lies beyond the grid is outside.
    """
    local = voxels - voxels.min(axis=0) + 1
    mask = np.zeros(local.max(axis=0) + 2, dtype=bool)
    mask[tuple(local.T)] = True
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing))[tuple(local.T)]


def rows_by_stratum(
    instance: Instance, spacing: Sequence[float] | None = None
) -> dict[str, dict[str, int]]:
    """How many rows of a sampled instance are computed in each stratum, and of how many voxels."""
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
    """`count` rows in proportion to the sizes: rounded up or down, and right on average.

    The average is over offsets from 0 to 1.
    """
    edges = np.floor(count * np.cumsum(sizes) / sizes.sum() + offset)
    return np.diff(edges, prepend=0.0).astype(np.int64)
