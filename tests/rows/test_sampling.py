"""Samples of rows: seeded, stratified, spread in space, and fair to every voxel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segxai.geometry import Box
from segxai.rows.sampling import STRATA, depth, rows_by_stratum, sample_rows, strata
from tests.networks import block

CUBE = block((12, 12, 12), (1, 2, 1), (9, 9, 9))
LAYERS = [9**3 - 7**3, 7**3 - 3**3, 3**3]  # its surface, its middle, its core


@settings(deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 3))
def test_a_sample_is_seeded_distinct_and_of_the_size_that_was_asked(count, seed):
    instance = block((20, 20, 20), (3, 4, 5), (3, 4, 3))
    sampled = sample_rows(instance, count, seed)
    again = sample_rows(instance, count, seed)
    rows = {tuple(voxel) for voxel in sampled.row_voxels.tolist()}
    assert len(rows) == min(count, 36)
    assert rows <= {tuple(voxel) for voxel in instance.voxels.tolist()}
    assert np.array_equal(sampled.row_voxels, again.row_voxels)
    assert (sampled.sampled is None) == (count >= 36)
    assert len(sampled.voxels) == 36  # the domain stays whole


def test_another_seed_draws_another_sample():
    first, second = (sample_rows(CUBE, 20, seed).row_voxels for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_the_draw_depends_on_the_domain_and_not_on_its_number():
    """A lesion has another label in another run, where a larger one was found."""
    same = replace(CUBE, label=7, outcome="TP")
    assert np.array_equal(sample_rows(same, 20, seed=0).sampled, sample_rows(CUBE, 20, 0).sampled)
    other = CUBE.seen_from(Box((1, 1, 1), (11, 11, 11)))
    assert not np.array_equal(sample_rows(other, 20, 0).sampled, sample_rows(CUBE, 20, 0).sampled)


@pytest.mark.parametrize("count", [8, 27, 30, 100, 400])
def test_every_stratum_has_its_share(count):
    found = rows_by_stratum(sample_rows(CUBE, count, seed=1))
    assert [found[name]["voxels"] for name in STRATA] == LAYERS
    shares = [found[name]["rows"] for name in STRATA]
    assert sum(shares) == count
    assert all(abs(m - count * n / 729) < 1 for m, n in zip(shares, LAYERS, strict=True))


def test_over_all_seeds_every_stratum_has_exactly_its_share():
    """Of 8 rows the core has 0 or 1; its mean over 400 seeds is within five standard deviations."""
    often = np.zeros(len(STRATA))
    for seed in range(400):
        found = rows_by_stratum(sample_rows(CUBE, 8, seed))
        often += [found[name]["rows"] for name in STRATA]
    share = 8 * np.array(LAYERS) / 729
    part = share % 1  # a stratum has the whole part, and one row more in this part of the draws
    assert (np.abs(often / 400 - share) < 5 * np.sqrt(part * (1 - part) / 400)).all()


def test_every_voxel_is_as_likely_as_any_other():
    """In 4000 draws of 7 of 23 voxels: within five standard deviations."""
    instance = block((9, 9), (2, 3), (5, 5))
    instance = replace(instance, voxels=instance.voxels[:23])
    assert np.bincount(strata(instance.voxels)).tolist() == [16, 0, 7]
    drawn = np.concatenate([sample_rows(instance, 7, seed).sampled for seed in range(4000)])
    share = 7 / 23
    often = np.bincount(drawn, minlength=23) / 4000
    assert np.abs(often - share).max() < 5 * (share * (1 - share) / 4000) ** 0.5


def test_a_sample_is_spread_over_the_domain_and_so_is_every_fourth_of_it():
    """Each octant of a cube of 8^3 holds about an eighth of 64 rows."""
    rows = sample_rows(block((10, 10, 10), (1, 1, 1), (8, 8, 8)), 64, seed=0).row_voxels
    octants = ((rows - 1) // 4) @ [4, 2, 1]
    assert set(np.bincount(octants, minlength=8)) <= {6, 7, 8, 9, 10}
    for first in range(4):
        assert set(np.bincount(octants[first::4], minlength=8)) <= {1, 2, 3}


def test_strata_are_layers_by_depth():
    mask = CUBE.mask((12, 12, 12)).astype(int)
    mask[tuple(CUBE.voxels.T)] = strata(CUBE.voxels) + 1
    middle = mask[5, 6, 1:10]
    assert middle.tolist() == [1, 2, 2, 3, 3, 3, 2, 2, 1]
    assert depth(CUBE.voxels).max() == 5


def test_depth_is_in_millimetres():
    """Slices 4 mm apart: the outer slices of a slab are not its surface, its rim is."""
    slab = block((12, 12, 6), (1, 1, 1), (9, 9, 3)).voxels
    assert (strata(slab)[(slab[:, 2] != 2)] == 0).all()
    apart = strata(slab, (1.0, 1.0, 4.0))
    rim = ((slab[:, :2] == 1) | (slab[:, :2] == 9)).any(axis=1)
    assert ((apart == 0) == rim).all()


def test_beyond_the_grid_is_outside():
    assert depth(block((5, 5), (0, 0), (5, 5)).voxels).max() == 3


def test_a_thin_domain_is_all_surface():
    line = block((9, 9, 9), (4, 4, 0), (1, 1, 9))
    assert not strata(line.voxels).any()
    assert rows_by_stratum(sample_rows(line, 4, seed=0))["core"] == {"rows": 0, "voxels": 0}


def test_a_depth_at_the_border_of_two_strata():
    """One row of voxels, its sides nearer than its middle: depths 1, 2, 2.5, ..., 2.5, 2, 1."""
    line = block((9, 3), (0, 1), (9, 1)).voxels
    assert depth(line, (1.0, 2.5)).tolist() == [1, 2, 2.5, 2.5, 2.5, 2.5, 2.5, 2, 1]
    # Below the surface from 1.5 = 1.5 x 1 on, in the core beyond 2 = (1.5 + 2.5) / 2.
    assert strata(line, (1.0, 2.5)).tolist() == [0, 1, 2, 2, 2, 2, 2, 1, 0]
    assert depth(line, (1.0, 1.5)).tolist() == [1, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1]
    assert strata(line, (1.0, 1.5)).tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
