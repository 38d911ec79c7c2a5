"""Cropping loses nothing but zeros, and says what a cut at a distance leaves out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segxai.geometry import Box, Grid
from segxai.methods.cropping import crop_at_distance, crop_to_support, on_map
from segxai.types import Attribution, Case, Instance
from tests.networks import block


@given(data=st.data())
def test_a_crop_to_the_support_keeps_every_value(data):
    shape = (7, 8)
    values = np.zeros((2, *shape), dtype=np.float32)
    for _ in range(data.draw(st.integers(0, 4))):
        place = tuple(data.draw(st.integers(0, n - 1)) for n in values.shape)
        values[place] = data.draw(st.floats(-3, 3, width=32))
    instance = block(shape, (3, 4), (2, 1))
    error = np.abs(values)
    found = crop_to_support(Attribution(1, values, (0, 0), error), instance)
    np.testing.assert_array_equal(found.on_grid(shape), values)
    assert instance.seen_from(found.box).mask(found.box.size).sum() == 2


def test_the_box_is_the_smallest_that_holds_values_errors_and_domain():
    values, error = np.zeros((1, 9, 9), np.float32), np.zeros((1, 9, 9), np.float32)
    values[0, 4, 4] = 1
    error[0, 4, 7] = 1
    found = crop_to_support(
        Attribution(1, values, (10, 20), error), block((30, 40), (12, 24), (2, 1))
    )
    assert (found.offset, found.values.shape) == ((12, 24), (1, 3, 4))


def test_a_cut_at_a_distance_records_the_energy_left_out():
    values = np.zeros((1, 20, 20), dtype=np.float32)
    values[0, 10, 10], values[0, 10, 13], values[0, 10, 14] = 3, 2, 4
    instance = block((20, 20), (10, 10), (1, 1))
    whole = Attribution(1, values, (0, 0), facts={"rows": 1})
    cut = crop_at_distance(whole, instance, (1.0, 1.0), 3.0)
    assert cut.facts == {"rows": 1, "crop_mm": 3.0, "energy_left_out": pytest.approx(16 / 29)}
    assert cut.on_grid((20, 20))[0, 10].max() == 3
    assert cut.on_grid((20, 20))[0, 10, 13] == 2
    assert cut.on_grid((20, 20))[0, 10, 14] == 0


def test_the_distance_is_in_mm():
    values = np.ones((1, 20, 20), dtype=np.float32)
    instance = block((20, 20), (10, 10), (1, 1))
    cut = crop_at_distance(Attribution(1, values, (0, 0)), instance, (1.0, 2.0), 4.0)
    assert cut.values.shape == (1, 9, 5)


def test_nothing_is_left_out_of_an_empty_map():
    whole = Attribution(1, np.zeros((1, 5, 5), dtype=np.float32), (0, 0))
    cut = crop_at_distance(whole, block((5, 5), (2, 2), (1, 1)), (1.0, 1.0), 1.0)
    assert cut.facts["energy_left_out"] == 0


def test_a_domain_on_the_picture_has_the_nearest_voxels_of_the_map():
    """Of a picture with pixels half as large, several have the same; those outside, the last."""
    shape = (6, 8)
    case = Case("made up", np.zeros((1, *shape)), ("a",), Grid.unit(shape), np.ones(shape, bool))
    instance = Instance(1, np.array([[4, 6], [4, 7], [5, 6], [11, 6]]))
    assert on_map(instance, case, Box.whole(shape)) is instance
    finer = Grid((12, 16), np.diag([0.5, 0.5, 1.0]))
    case = replace(case, source_grid=finer, domains_on_source=True)
    found = on_map(instance, case, Box((0, 0), (5, 8)))
    assert found.voxels.tolist() == [[2, 3], [2, 4], [4, 3]]
