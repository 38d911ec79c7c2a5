"""What methods share: which of them get a sample of rows."""

from segxai.methods.aggregators import Mean, SignedMax
from segxai.methods.method import with_rows_for
from segxai.rows.sampling import sample_rows
from tests.networks import block


def test_only_aggregators_that_take_rows_one_by_one_get_a_sample():
    sampled = sample_rows(block((12, 12, 12), (1, 2, 1), (9, 9, 9)), 20, seed=0)
    assert with_rows_for(SignedMax(), sampled) is sampled
    for exact in (Mean(), None):
        assert with_rows_for(exact, sampled).sampled is None
