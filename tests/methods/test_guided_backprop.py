"""Guided backpropagation is Captum's, and says where it guides nothing."""

import pytest
import torch
from captum.attr import GuidedBackprop
from torch import nn

import segxai
from segxai.methods.gradient import InstanceGradient
from segxai.rows.scores import InstanceScore
from tests import literal
from tests.networks import block, image_of, net2d


class Rectified(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))


@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not")
def test_guided_backpropagation_is_captums_where_there_are_relus():
    model = literal.seeded(Rectified())
    image, instance = image_of((1, 8, 8)), block((8, 8), (3, 3), (2, 2))
    ours = segxai.GuidedBackprop(InstanceScore(model, instance)).attribute(image)
    theirs = GuidedBackprop(InstanceScore(model, instance)).attribute(image)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, InstanceGradient(model, "mean").attribute(image, instance))


def test_guided_backpropagation_warns_where_it_guides_nothing():
    with pytest.warns(UserWarning, match=r"no nn\.ReLU"):
        segxai.GuidedBackprop(InstanceScore(net2d(), block((8, 8), (3, 3), (2, 2))))
