"""Rows of one window's forward pass."""

from segxai.rows.window_pass import dense_rows, forward_pass
from segxai.segment.inference_mode import frozen
from tests import literal
from tests.networks import image_of


def test_dense_rows_can_be_computed_at_once(known_rows):
    """As on a GPU, where a batch pays."""
    predictor, image, instance, _ = known_rows
    with frozen(predictor.network):
        window = max(predictor.layout.windows, key=lambda w: w.contains(instance.voxels).sum())
        voxels = instance.voxels[window.contains(instance.voxels)]
        assert len(voxels) > 3
        one = forward_pass(predictor, image, window)
        weights = image_of((len(voxels), one.logits.shape[1]))[0]
        found = dense_rows(one, voxels, weights)
        for k, row in enumerate(found.values):
            wanted = dense_rows(one, voxels[k : k + 1], weights[k : k + 1])
            assert literal.worst(row, wanted.values[0]) < 1e-5
