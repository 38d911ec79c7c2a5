"""What is compared around a domain: distances, shares of energy, and maps that are moved."""

import numpy as np
import pytest

from segxai.compare.neighbourhood import (
    BORDER_MM,
    REACH_MM,
    energy_shares,
    neighbourhood,
    on_map_grid,
)
from segxai.errors import SegxaiError
from segxai.geometry import Box, Grid
from segxai.types import Attribution

SHAPE, SPACING = (50, 30, 18), (1.0, 2.0, 3.0)
GRID = Grid(SHAPE, np.diag([*SPACING, 1.0]))
DOMAIN = np.argwhere(np.pad(np.ones((3, 2, 2)), [(24, 23), (14, 14), (2, 14)]))
VALUES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def around(values=VALUES, offset=(0, 0, 0), *, domain=DOMAIN, place=(0, 0, 0), order=(0, 1)):
    map_ = Attribution(1, values, offset, abs(values))
    return neighbourhood(map_, domain, GRID, place=place, order=order)


def literal_distances():
    found = np.empty(SHAPE)
    for voxel in np.ndindex(SHAPE):
        steps = (DOMAIN - voxel) * SPACING
        found[voxel] = np.sqrt((steps**2).sum(axis=1)).min()
    return found


def test_the_box_holds_every_voxel_within_reach():
    near, distances = around(), literal_distances()
    np.testing.assert_allclose(near.distance, distances[near.box.index])
    outside = np.ones(SHAPE, dtype=bool)
    outside[near.box.index] = False
    assert distances[outside].min() > REACH_MM
    np.testing.assert_array_equal(near.values, VALUES[near.box.index])
    np.testing.assert_array_equal(near.error, abs(VALUES)[near.box.index])


def test_a_map_is_zero_outside_of_what_is_stored():
    stored = VALUES[:, 20:30, 3:20, 1:6]
    near = around(stored, (20, 3, 1))
    full = np.zeros_like(VALUES)
    full[:, 20:30, 3:20, 1:6] = stored
    np.testing.assert_array_equal(near.values, full[near.box.index])


def test_place_and_channels_are_those_that_results_share():
    plain, other = around(), around(place=(4, 0, 7), order=(1, 0))
    assert np.subtract(other.box.start, plain.box.start).tolist() == [4, 0, 7]
    assert (other.centre - plain.centre).tolist() == [4, 0, 7]
    np.testing.assert_array_equal(other.values, plain.values[::-1])
    np.testing.assert_array_equal(other.error, plain.error[::-1])


def test_a_moved_map_lies_centre_on_centre():
    far = around(domain=np.add(DOMAIN, (5, -3, 1)))
    moved = far.moved_to(around())
    np.testing.assert_allclose(moved.centre, around().centre)
    assert np.subtract(far.box.start, moved.box.start).tolist() == [5, -3, 1]
    np.testing.assert_array_equal(moved.values, far.values)
    cut = moved.in_box(Box((20, 10, 3), (4, 3, 2)))
    voxels = (..., slice(25, 29), slice(7, 10), slice(4, 6))
    np.testing.assert_array_equal(cut.values, VALUES[voxels])


def test_energy_inside_at_the_border_and_around():
    found, distances = energy_shares(around()), literal_distances()
    for channel in range(2):
        squares = VALUES[channel].astype(float) ** 2
        zones = {
            "energy_inside": distances == 0,
            "energy_border": (distances > 0) & (distances <= BORDER_MM),
            "energy_around": (distances > BORDER_MM) & (distances <= REACH_MM),
        }
        whole = squares[distances <= REACH_MM].sum()
        for name, zone in zones.items():
            assert found[name][channel] == pytest.approx(squares[zone].sum() / whole)


def test_a_map_without_channels_or_without_energy():
    assert around(VALUES[0]).is_heat
    shares = energy_shares(around(VALUES[0]))
    assert sum(shares.values()) == pytest.approx(1)
    assert np.isnan(energy_shares(around(0 * VALUES))["energy_inside"]).all()


def test_a_domain_on_another_grid_is_where_it_is_nearest():
    fine = Grid((100, 60, 54), np.diag([0.5, 1, 1, 1]))
    domain = np.array([[10, 10, 10], [11, 10, 10], [99, 59, 53], [0, 0, 55]])
    found = on_map_grid(domain, fine, GRID)
    assert found.tolist() == [[0, 0, 17], [5, 5, 3], [6, 5, 3], [49, 29, 17]]
    outside = Grid((100, 60, 54), np.eye(4) - 3 * np.eye(4, k=3))
    assert on_map_grid(np.array([[0, 0, 0]]), outside, GRID).tolist() == [[0, 0, 0]]
    assert on_map_grid(DOMAIN, GRID, GRID) is DOMAIN
    with pytest.raises(SegxaiError, match="a domain has no voxel"):
        on_map_grid(DOMAIN[:0], GRID, GRID)
