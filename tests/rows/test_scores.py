"""Scores and their cotangents, against closed forms."""

import pytest
import torch

from segxai.errors import SegxaiError
from segxai.rows.instance_score import InstanceScore
from segxai.rows.scores import SCORES, base_of, cotangents, find_score, scale_of
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests.networks import block, image_of, net2d

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 4.0]])


def test_scores_have_closed_forms():
    assert SCORES["logit"](LOGITS, 1).tolist() == [3, -1]
    assert SCORES["margin"](LOGITS, 1).tolist() == [1, -5]
    wanted = torch.exp(LOGITS[:, 1]) / torch.exp(LOGITS).sum(dim=1)
    assert torch.allclose(SCORES["probability"](LOGITS, 1), wanted)


def test_a_single_logit_is_its_own_margin_and_a_sigmoid():
    single = LOGITS[:, :1]
    assert torch.equal(SCORES["margin"](single, 0), single[:, 0])
    assert torch.allclose(SCORES["probability"](single, 0), torch.sigmoid(single[:, 0]))


def test_cotangents_are_the_derivatives():
    assert cotangents("logit", LOGITS, 1).tolist() == [[0, 1, 0], [0, 1, 0]]
    assert cotangents("margin", LOGITS, 1).tolist() == [[0, 1, -1], [0, 1, -1]]
    p = torch.softmax(LOGITS, dim=1)
    wanted = -p[:, 1:2] * p
    wanted[:, 1] += p[:, 1]
    assert torch.allclose(cotangents("probability", LOGITS, 1), wanted)


def test_cotangents_come_without_a_graph_and_under_no_grad():
    with torch.no_grad():
        found = cotangents("probability", LOGITS, 0)
    assert not found.requires_grad


def test_an_unknown_score_is_named():
    with pytest.raises(SegxaiError, match="'logits'.* 'logit'"):
        find_score("logits")


@pytest.mark.parametrize("score", SCORES)
def test_an_instance_score_is_the_mean_over_the_domain(score):
    model, images = net2d(), torch.cat([image_of((3, 12, 10), seed) for seed in (0, 1)])
    instance = block((12, 10), (2, 3), (3, 2))
    found = InstanceScore(model, instance, score)(images)
    for one, image in zip(found, images, strict=True):
        logits = model(image[None])[0].flatten(1).T
        values = SCORES[score](logits, 1).reshape(12, 10)[2:5, 3:5]
        assert torch.allclose(one, values.mean())


def test_an_instance_score_of_another_grid_is_refused():
    model, image = net2d(), image_of((3, 12, 10))
    mask = block((6, 5), (2, 3), (3, 2)).mask((6, 5))
    with pytest.raises(SegxaiError, match="mask has 6 x 5 voxels, but the model's output has 12 x"):
        InstanceScore(model, mask)(image)
    with pytest.raises(SegxaiError, match="instance 1 has voxels on a grid of at least 5 x 5"):
        InstanceScore(model, block((6, 5), (2, 3), (3, 2)))(image[..., :4, :4])


def test_an_instance_score_of_independent_logits_compares_none():
    image, instance = image_of((3, 12, 10)), block((12, 10), (2, 3), (3, 2))
    model = Predictor(net2d(), whole_image((12, 10)), activation="sigmoid")
    logits = model(image)[0, 1, 2:5, 3:5]
    wanted = {"logit": logits, "margin": logits, "probability": 1 / (1 + torch.exp(-logits))}
    for score, values in wanted.items():
        assert torch.allclose(InstanceScore(model, instance, score)(image), values.mean())


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_probability_is_a_multiple_of_the_slope_of_its_base(activation):
    """p (1 - p): of the log-odds, which the margin of two classes is."""
    logits = LOGITS[:, :2]
    base = base_of("probability", 2, activation)
    wanted = cotangents("probability", logits, 1, activation)
    scale = scale_of("probability", logits, 1, activation)
    assert torch.allclose(scale[:, None] * cotangents(base, logits, 1, activation), wanted)
    assert scale_of("logit", logits, 1).tolist() == [1, 1]
