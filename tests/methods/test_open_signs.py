"""Open signs: those that rows within their error could turn over, and no others of note."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segxai.methods.aggregators import Extremes, Mean, SignedMax
from segxai.methods.open_signs import open_signs
from segxai.methods.sampling_error import SideBySide
from segxai.rows.batch import RowBatch


def extremes(*pairs):
    largest, smallest = torch.tensor(pairs).T[:, None]
    return Extremes(largest, smallest)


def test_near_ties_above_the_error_are_counted():
    """With a peak of 2 and an error of 0.01, a row is off by at most 0.02."""
    tie, clear, small, tiny = (0.5, -0.52), (0.5, -0.55), (0.03, -0.0299), (0.019, -0.02)
    assert open_signs(extremes((2.0, -0.1), tie, clear, small, tiny), 0.01) == {
        "open_signs": 2,
        "open_sign_size": pytest.approx(0.26),
    }
    assert open_signs(extremes((2.0, -0.1), clear), 0.01) == {
        "open_signs": 0,
        "open_sign_size": 0.0,
    }
    assert open_signs(extremes((0.0, 0.0)), 0.01)["open_signs"] == 0


@given(seed=st.integers(0, 10**6), row_error=st.sampled_from([0.003, 0.03, 0.1]))
def test_every_sign_that_turns_was_open(seed, row_error):
    generator = torch.Generator().manual_seed(seed)
    exact = torch.randn(6, 1, 40, generator=generator)
    off = 2 * torch.rand(exact.shape, generator=generator) - 1
    found = exact + 0.99 * row_error * exact.abs().amax(dim=2, keepdim=True) * off
    states = []
    for rows in (exact, found):
        state = SignedMax().start(torch.zeros(1, 40))
        states.append(SignedMax().add(state, RowBatch(rows, (0,))))
    wanted, got = (SignedMax().finish(state)[0] for state in states)
    # The error is known relative to the approximate peak, which is off by as much.
    told = open_signs(states[1], row_error / (1 - row_error))
    turned = (wanted * got < 0) & (states[1].largest[0].minimum(-states[1].smallest[0]) > 0.2 * 3)
    assert told["open_signs"] >= int(turned.sum())
    if turned.any():
        assert told["open_sign_size"] >= float(got.abs()[turned].max() / got.abs().max()) * 0.999


def test_parts_of_a_sample_are_not_counted_twice_and_means_have_no_signs():
    batch = RowBatch(torch.tensor([[[2.0, 0.5]], [[0.1, -0.5]]]), (0,))
    sample = SideBySide(SignedMax(), lambda maps: None)
    state = sample.add(sample.start(torch.zeros(1, 2)), batch)
    assert open_signs(state, 0.01) == {"open_signs": 1, "open_sign_size": 0.25}
    mean = Mean()
    assert open_signs(mean.add(mean.start(torch.zeros(1, 2)), batch), 0.01) == {}
