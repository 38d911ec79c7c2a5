"""Folds over rows: the same whatever the order and the batches, and as the formulas say."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segxai.methods.aggregators import Mean, SignedMax
from segxai.rows.batch import RowBatch
from tests import literal

AGGREGATORS = [Mean(), SignedMax()]
LITERAL = {"mean": literal.mean, "signed_max": literal.signed_max}


def fold(aggregator, batches, shape):
    state = aggregator.start(torch.zeros(shape))
    for batch in batches:
        state = aggregator.add(state, batch)
    return aggregator.finish(state)


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda one: one.name)
@given(data=st.data())
def test_order_and_batches_cannot_matter(aggregator, data):
    count = data.draw(st.integers(1, 9))
    rows = torch.randn(count, 2, 4, 5, generator=torch.Generator().manual_seed(count))
    order = data.draw(st.permutations(range(count)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=3)))
    edges = [0, *cuts, count]
    parts = [rows[order][a:b] for a, b in itertools.pairwise(edges) if b > a]
    found = fold(aggregator, [RowBatch(part, (0, 0)) for part in parts], (2, 4, 5))
    assert literal.worst(found, LITERAL[aggregator.name](rows)) < 1e-6


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda one: one.name)
def test_rows_are_zero_outside_of_their_box(aggregator):
    rows = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    full = torch.zeros(3, 1, 6, 7)
    batches = []
    for k, (row, start) in enumerate(zip(rows, [(0, 0), (1, 1), (4, 5)], strict=True)):
        full[k, :, start[0] : start[0] + 2, start[1] : start[1] + 2] = row
        batches.append(RowBatch(row[None], start))
    found = fold(aggregator, batches, (1, 6, 7))
    assert literal.worst(found, LITERAL[aggregator.name](full)) < 1e-6


def test_signed_max_keeps_the_sign_of_the_largest_magnitude():
    rows = torch.tensor([3.0, -5.0, 4.0])[:, None, None]
    assert fold(SignedMax(), [RowBatch(rows, (0,))], (1, 1)).item() == -5


@pytest.mark.parametrize("values", [[2.0, -2.0], [-2.0, 2.0]])
def test_the_positive_entry_wins_a_tie_in_any_order(values):
    batches = [RowBatch(torch.tensor([[[value]]]), (0,)) for value in values]
    assert fold(SignedMax(), batches, (1, 1)).item() == 2


def test_all_negative_entries_stay_negative():
    rows = torch.tensor([-0.1, -0.3])[:, None, None]
    assert fold(SignedMax(), [RowBatch(rows, (0,))], (1, 1)).item() == pytest.approx(-0.3)


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda one: one.name)
@pytest.mark.parametrize("first", [True, False])
def test_nan_propagates(aggregator, first):
    values = [float("nan"), 7.0] if first else [7.0, float("nan")]
    batches = [RowBatch(torch.tensor([[[value]]]), (0,)) for value in values]
    assert fold(aggregator, batches, (1, 1)).isnan().all()
