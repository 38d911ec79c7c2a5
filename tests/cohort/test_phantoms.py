"""Phantoms follow their recipe, and the same number gives the same one."""

from dataclasses import replace

import numpy as np
import pytest

from segxai import Case, Grid, InstanceCriteria, SegxaiError
from segxai.cohort.phantoms import OBJECTS, is_healthy, phantom
from segxai.instances import components
from tests.toy.segxai_toy import picture

SHAPE = (48, 46, 44)
BALLS = (((20, 20, 20), 2.3), ((30, 18, 22), 1.6))


def embedded():
    image = picture(SHAPE, BALLS)
    foreground = np.zeros(SHAPE, dtype=bool)
    foreground[4:-4, 4:-4, 4:-4] = True
    image[:, ~foreground] = 0
    return Case(
        "embedded", image, ("bright", "other"), Grid.unit(SHAPE), foreground,
        black=(0.0, 0.0), reference=image[0] > 0.5,
    )  # fmt: skip


def count(mask):
    return len(components(mask, Grid.unit(mask.shape), InstanceCriteria()))


def test_a_phantom_has_objects_elsewhere_and_spots_that_are_none():
    case, made = embedded(), phantom(embedded(), 1)
    # Deformation and linear interpolation may join or lose a small one.
    assert OBJECTS[0] - 1 <= count(made.reference) <= OBJECTS[1] + 1
    assert count(made.image[0] > 0.45) > 0
    assert (made.image[:, ~made.foreground] == 0).all()
    assert made.image[0][made.reference].mean() > 2 * made.image[0][made.foreground].mean()
    assert not np.array_equal(made.reference, case.reference)
    assert made.image.dtype == np.float32
    again = phantom(embedded(), 1)
    np.testing.assert_array_equal(made.image, again.image)
    np.testing.assert_array_equal(made.reference, again.reference)
    assert made.sources == again.sources
    other = phantom(embedded(), 2)
    assert not np.array_equal(made.image, other.image)
    assert made.sources != other.sources


def test_every_fifth_is_healthy():
    assert [number for number in range(1, 11) if is_healthy(number)] == [5, 10]
    healthy = phantom(embedded(), 5)
    assert not healthy.reference.any()
    assert count(healthy.image[0] > 0.4) <= 3 + 2  # distractors, perhaps in pieces


def test_the_objects_of_the_case_are_gone():
    case = embedded()
    one = phantom(replace(case, image=case.image.copy()), 5)
    shifted = np.argwhere(case.reference)
    there = one.image[0][tuple(shifted.T)]
    assert (there > 0.5).mean() < 0.3
    np.testing.assert_array_equal(case.image, embedded().image)  # nothing was changed in place


def test_without_a_reference_there_is_no_phantom():
    with pytest.raises(SegxaiError, match="it has no reference on the network's grid"):
        phantom(replace(embedded(), reference=None), 1)
