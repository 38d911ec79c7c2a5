"""The mean of an instance's rows, and its logits, without a row for itself."""

import pytest
import torch

from segxai.rows.mean_row import logits_at, mean_row
from segxai.rows.scores import SCORES
from segxai.segment.inference_mode import frozen
from tests import literal
from tests.rows.whole_grid import scores_of


@pytest.mark.parametrize("score", SCORES)
def test_the_mean_row_equals_the_mean_of_the_rows(known_rows, score):
    predictor, image, instance, _ = known_rows
    wanted = literal.mean(
        literal.rows(scores_of(predictor, score), image, instance.voxels, class_index=0)
    )
    local, box = predictor.crop_to(instance.voxels)
    with frozen(predictor.network):
        found = mean_row(
            local, image[box.index], box.local(instance.voxels), class_index=1, score=score
        )
    full = torch.zeros_like(image[0])
    full[box.index] = found
    assert literal.worst(full, wanted) < 1e-5


def test_logits_at_are_the_blended_logits(known_rows):
    predictor, image, instance, _ = known_rows
    with torch.no_grad():
        wanted = predictor(image)[0][:, *instance.voxels.T].T
    assert literal.worst(logits_at(predictor, image, instance.voxels), wanted) < 1e-6
