"""Signs that hold in all runs, as a map of its own."""

import numpy as np

from segxai.compare.neighbourhood import neighbourhood
from segxai.compare.signs import held_signs
from segxai.geometry import Grid
from segxai.types import Attribution

SHAPE = (60, 12)
DOMAIN = np.array([[30, 5], [31, 5]])


def around(values, domain=DOMAIN):
    return neighbourhood(
        Attribution(4, values, (0, 0)), domain, Grid.unit(SHAPE), place=(0, 0), order=(0, 1)
    )


def test_signs_hold_where_they_are_the_same_in_all():
    generator = np.random.default_rng(0)
    maps = [generator.integers(-1, 2, (2, *SHAPE)).astype(np.float32) for _ in range(3)]
    held = held_signs([around(values) for values in maps])
    full = held.on_grid(SHAPE)
    for voxel in np.ndindex(2, *SHAPE):
        signs = {float(values[voxel]) for values in maps}
        near = min(np.hypot(*(np.array(voxel[1:]) - one)) for one in DOMAIN) <= 20
        expected = signs.pop() if near and len(signs) == 1 else 0
        assert full[voxel] == expected
    assert {-1, 0, 1} == set(np.unique(full))
    assert (held.label, held.unit) == (4, "sign in all 3 runs")


def test_signs_hold_near_all_domains_alone():
    ones = np.ones((2, *SHAPE), dtype=np.float32)
    held = held_signs([around(ones), around(ones, np.add(DOMAIN, (20, 0)))])
    marked = np.argwhere(held.on_grid(SHAPE)[0])
    assert (marked[:, 0].min(), marked[:, 0].max()) == (30, 51)
    far = [around(ones, np.array([[0, 5]])), around(ones, np.array([[59, 5]]))]
    assert held_signs(far) is None
