"""The quantile is numpy's, of rows that are 0 outside of their boxes, in any order and batches."""

import numpy as np
import pytest
import torch
from segxai_quantile import LEVELS, Quantile

from segxai import RowBatch, load_aggregator, state_from_tensors, state_to_tensors

GRID = (9, 8, 7)
TEMPLATE = torch.zeros(2, *GRID)


def rows(count=23, seed=0):
    """Make rows on their own boxes, and the same rows on the whole grid."""
    generator = np.random.default_rng(seed)
    found, whole = [], np.zeros((count, 2, *GRID), dtype=np.float32)
    for row in range(count):
        start = tuple(int(generator.integers(0, n - 3)) for n in GRID)
        values = generator.normal(size=(1, 2, 3, 2, 3)).astype(np.float32)
        found.append(RowBatch(torch.from_numpy(values), start))
        whole[row][
            (slice(None), *(slice(a, a + n) for a, n in zip(start, (3, 2, 3), strict=True)))
        ] = values[0]
    return found, whole


def fold(aggregator, batches):
    state = aggregator.start(TEMPLATE)
    for batch in batches:
        state = aggregator.add(state, batch)
    return aggregator.finish(state).numpy()


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 23])
def test_it_is_the_quantile_of_whole_rows(level, count):
    batches, whole = rows(count)
    found = fold(Quantile("any", level), batches)
    slow = np.zeros(TEMPLATE.shape)
    for place in np.ndindex(*TEMPLATE.shape):
        slow[place] = np.quantile(whole[(slice(None), *place)].astype(float), level)
    np.testing.assert_allclose(found, slow, atol=1e-6)


def test_neither_order_nor_batches_matter():
    batches, whole = rows()
    found = fold(Quantile("any", 0.9), batches)
    np.testing.assert_array_equal(fold(Quantile("any", 0.9), batches[::-1]), found)
    together = [RowBatch(torch.from_numpy(part), (0, 0, 0)) for part in np.array_split(whole, 4)]
    np.testing.assert_array_equal(fold(Quantile("any", 0.9), together), found)


def test_batches_and_state_share_no_memory():
    batches, _ = rows(3)
    before = [batch.values.clone() for batch in batches]
    wanted = fold(Quantile("any", 0.5), batches)
    assert all(torch.equal(a.values, b) for a, b in zip(batches, before, strict=True))
    state = Quantile("any", 0.5).start(TEMPLATE)
    for batch in batches:
        state = Quantile("any", 0.5).add(state, batch)
        batch.values.zero_()
    np.testing.assert_array_equal(Quantile("any", 0.5).finish(state).numpy(), wanted)


def test_not_a_number_wins():
    batches, _ = rows(5)
    batches[2].values[0, 0, 0, 0, 0] = torch.nan
    found = fold(Quantile("any", 0.5), batches)
    assert np.isnan(found).sum() == 1
    assert np.isnan(found[(0, *batches[2].start)])


def test_there_is_no_quantile_of_no_rows():
    assert np.isnan(fold(Quantile("any", 0.5), [])).all()


def test_a_state_can_be_kept_and_gone_on_with():
    aggregator, (batches, _) = Quantile("any", 0.9), rows()
    state = aggregator.start(TEMPLATE)
    for batch in batches[:10]:
        state = aggregator.add(state, batch)
    state = state_from_tensors(aggregator.start(TEMPLATE), state_to_tensors(state))
    for batch in batches[10:]:
        state = aggregator.add(state, batch)
    np.testing.assert_array_equal(aggregator.finish(state).numpy(), fold(aggregator, batches))


@pytest.mark.parametrize("name", LEVELS)
def test_segxai_finds_it_by_name(name):
    assert load_aggregator(name) == Quantile(name, LEVELS[name])
