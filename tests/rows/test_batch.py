"""Batches: rows keep what comes with them."""

import torch

from segxai.rows.batch import RowBatch


def test_some_of_the_rows_come_with_their_own_scales_and_logits():
    numbers = torch.arange(5.0)
    batch = RowBatch(
        numbers.reshape(5, 1, 1, 1), (2, 3), {"probability": numbers}, numbers[:, None]
    )
    found = batch.take(slice(1, None, 2))
    assert found.start == (2, 3)
    for values in (found.values, found.scales["probability"], found.logits):
        assert values.flatten().tolist() == [1, 3]
    assert RowBatch(batch.values, (2, 3)).take(slice(2)).logits is None
