"""The mean of an instance's rows, and its logits, without a row for itself."""

import numpy as np
import pytest
import torch

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.rows.mean_row import logits_at, mean_row
from segxai.rows.scores import SCORES
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from segxai.types import ENGINES
from tests import literal
from tests.networks import Counting, WritesInPlace, block, image_of, net2d
from tests.rows.whole_grid import rows_on_grid, scores_of


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
@pytest.mark.parametrize("score", SCORES)
def test_the_mean_row_equals_the_mean_of_the_rows(known_rows, score, engine):
    predictor, image, instance, _ = known_rows
    wanted = literal.mean(
        literal.rows(scores_of(predictor, score), image, instance.voxels, class_index=0)
    )
    local, box = predictor.crop_to(instance.voxels)
    with frozen(predictor.network):
        options = {"class_index": 1, "score": score, "engine": engine}
        found = mean_row(local, image[box.index], box.local(instance.voxels), **options)
    full = torch.zeros_like(image[0])
    full[box.index] = found
    assert literal.worst(full, wanted) < 1e-5


@pytest.mark.parametrize(("engine", "carried"), [("auto", True), ("dense", False)])
def test_the_mean_goes_back_through_a_box_unless_it_is_asked_not_to(
    small, monkeypatch, engine, carried
):
    predictor, image, voxels = small
    sizes, grad = [], torch.autograd.grad

    def seen(outputs, inputs, cotangent=None, *rest, **more):
        if inputs.ndim > 2:  # not the derivative of the score
            sizes.append(getattr(cotangent, "box", Box.whole(cotangent.shape[2:])).size)
        return grad(outputs, inputs, cotangent, *rest, **more)

    monkeypatch.setattr(torch.autograd, "grad", seen)
    with frozen(predictor.network):
        mean_row(predictor, image, voxels, class_index=1, engine=engine)
    assert sizes == [Box.around(voxels).size if carried else image.shape[2:]]


def test_what_cannot_be_carried_goes_back_densely():
    predictor = Predictor(WritesInPlace(), whole_image((6, 5)))
    image, voxels = image_of((2, 6, 5)), np.array([[2, 2], [2, 3]])
    wanted = torch.zeros(2, 6, 5)
    wanted[1, 2, 2:4] = 2 / 2
    for engine in ("auto", "dense", "lowrank"):
        found = mean_row(predictor, image, voxels, class_index=1, engine=engine)
        assert torch.equal(found, wanted)
    with pytest.raises(SegxaiError, match="cannot carry rows"):
        mean_row(predictor, image, voxels, class_index=1, engine="windowed")


def test_windows_that_see_nothing_of_the_instance_do_not_run():
    network, shape = net2d(), (40, 20)
    predictor = Predictor(network, sliding_window(shape, (16, 16)))
    runs = []
    network.register_forward_hook(lambda *_: runs.append(1))
    with frozen(network):
        mean_row(predictor, image_of((3, *shape)), np.array([[0, 0]]), class_index=1)
    assert len(runs) == 1


@pytest.mark.parametrize("score", ["logit", "margin", "probability"])
def test_a_lone_window_runs_once_whatever_the_score(score):
    network, shape = Counting(net2d()), (20, 20)
    predictor, image = Predictor(network, whole_image(shape)), image_of((3, *shape))
    voxels = block(shape, (8, 9), (3, 2)).voxels
    wanted = literal.mean(literal.rows(scores_of(predictor, score), image, voxels, class_index=0))
    network.passes = 0
    with frozen(network):
        found = mean_row(predictor, image, voxels, class_index=1, score=score)
        assert network.passes == 1
    assert literal.worst(found, wanted) < 1e-6
    assert len(rows_on_grid(predictor, image, voxels, score=score)) == len(voxels)
    assert network.passes == 2


def test_logits_at_are_the_blended_logits(known_rows):
    predictor, image, instance, _ = known_rows
    with torch.no_grad():
        wanted = predictor(image)[0][:, *instance.voxels.T].T
    assert literal.worst(logits_at(predictor, image, instance.voxels), wanted) < 1e-6
