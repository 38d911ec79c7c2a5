"""Which voxels go together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segxai.rows.voxel_order import along_curve, compactly


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 60), st.integers(0, 99))
def test_every_member_is_there_once(axes, count, seed):
    generator = np.random.default_rng(seed)
    voxels = generator.integers(0, 9, (count + 5, axes))
    members = generator.permutation(count + 5)[:count]
    assert sorted(compactly(voxels, members)) == sorted(members)


@pytest.mark.parametrize("size", [8, 64])
def test_stretches_of_a_power_of_two_are_compact(size):
    """A cube of 8 by 8 by 8 falls into cubes of 2 by 2 by 2, and of 4 by 4 by 4."""
    voxels = np.argwhere(np.ones((8, 8, 8), dtype=bool))
    order = compactly(voxels, np.arange(len(voxels)))
    spans = {tuple(np.ptp(voxels[part], axis=0)) for part in order.reshape(-1, size)}
    side = round(size ** (1 / 3)) - 1
    assert spans == {(side,) * 3}


def test_what_is_left_over_comes_last():
    voxels = np.arange(13)[:, None]
    assert compactly(voxels, np.arange(13)[::-1]).tolist() == list(range(13))


def test_the_curve_fills_small_blocks_first():
    voxels = np.argwhere(np.ones((4, 4), dtype=bool))
    curve = voxels[along_curve(voxels)]
    assert [tuple(np.ptp(curve[n : n + 4], axis=0)) for n in range(0, 16, 4)] == [(1, 1)] * 4
