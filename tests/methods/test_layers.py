"""The layer of a CAM method: by its name, or the last wide convolution to run."""

import pytest
from torch import nn

from segxai.errors import SegxaiError
from segxai.methods.gradcam import grad_cam
from segxai.methods.layers import default_layer, find_layer
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests.asked import Asked
from tests.networks import block, image_of, net2d


@pytest.mark.filterwarnings("ignore:Grad-CAM")  # of random weights
def test_the_default_layer_is_the_last_wide_convolution_to_run():
    model = net2d()
    assert default_layer(model, image_of((3, 12, 10))) == "up"
    assert not any(module._forward_hooks for module in model.modules())
    settings = Asked()
    instance = block((12, 10), (4, 4), (2, 2))
    found = grad_cam(
        Predictor(model, whole_image((12, 10))), image_of((3, 12, 10)), instance, *settings
    )
    assert found.facts["layer"] == "up"
    assert found.values.ndim == 2


def test_a_network_of_more_classes_than_features_has_a_default_layer():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 9, 1)
    assert default_layer(nn.Sequential(*layers), image_of((1, 8, 8))) == "2"


def test_a_wide_layer_is_preferred_to_a_later_narrow_one():
    layers = nn.Conv2d(1, 9, 3), nn.ReLU(), nn.Conv2d(9, 2, 1), nn.Conv2d(2, 3, 1)
    assert default_layer(nn.Sequential(*layers), image_of((1, 8, 8))) == "0"


def test_a_network_without_feature_maps_has_no_default_layer():
    with pytest.raises(SegxaiError, match="name a layer"):
        default_layer(nn.Conv2d(1, 2, 1), image_of((1, 4, 4)))


def test_a_misspelt_layer_names_the_nearest():
    with pytest.raises(SegxaiError, match="'frist'.* 'first'"):
        find_layer(net2d(), "frist")
