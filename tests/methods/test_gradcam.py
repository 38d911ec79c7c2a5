"""Grad-CAM++: the formulas of the paper, voxel by voxel, and the care at its denominator."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.methods.cam_weights import grad_cam_weights
from segxai.methods.gradcam import InstanceGradCamPlusPlus, class_grad_cam, grad_cam
from segxai.methods.layers import find_layer
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import sliding_window, whole_image
from segxai.types import Instance
from tests import literal
from tests.asked import Asked
from tests.networks import block, coarse_network, image_of, net2d, small_unet

TOLERANCE = 1e-5

# Random networks have activations that sum below 0; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Grad-CAM")


def layer_and_gradient(model, layer, image, instance):
    """Activations of a layer, and the gradient of the summed logits there, by plain autograd."""
    kept = []
    hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model(image)
    hook.remove()
    total = logits[0, instance.class_index][tuple(instance.voxels.T)].sum()
    return kept[0].detach()[0], torch.autograd.grad(total, kept[0])[0][0]


@pytest.mark.parametrize("localised", [True, False])
@pytest.mark.parametrize("network", ["2d", "3d"])
def test_heat_maps_follow_the_formulas_voxel_by_voxel(network, localised):
    model, shape, name = {
        "2d": (net2d(), (3, 12, 10), "first"),
        "3d": (small_unet(), (2, 8, 8, 8), "model.2.conv"),
    }[network]
    image, instance = (
        image_of(shape),
        block(shape[1:], (3,) * (len(shape) - 1), (2,) * (len(shape) - 1)),
    )
    layer = find_layer(model, name)
    activations, gradients = layer_and_gradient(model, layer, image, instance)
    wanted = literal.grad_cam(activations, gradients, localised=localised)
    assert wanted.max() > 0
    method = InstanceGradCamPlusPlus(model, layer, localised=localised)
    found = method.attribute(image, instance=instance)[0, 0]
    assert literal.worst(found, wanted) < TOLERANCE
    function = grad_cam if localised else class_grad_cam
    one = function(Predictor(model, whole_image(shape[1:])), image, instance, *Asked(layer=name))
    assert literal.worst(one.on_grid(shape[1:]), wanted) < TOLERANCE


def test_a_contrast_of_two_classes_is_that_of_a_network_of_their_difference():
    model, image = net2d(), image_of((3, 12, 10))
    instance = block((12, 10), (3, 3), (2, 2))
    found = InstanceGradCamPlusPlus(model, model.down, contrast=2).attribute(image, instance)
    with torch.no_grad():  # the logit of class 1 becomes its difference from class 2
        for parameter in model.last.parameters():
            parameter[1] -= parameter[2]
    wanted = InstanceGradCamPlusPlus(model, model.down).attribute(image, instance)
    assert wanted.max() > 0
    assert literal.worst(found, wanted) < TOLERANCE


def test_a_mask_of_another_grid_is_refused():
    model, image, mask = net2d(), image_of((3, 12, 10)), block((6, 5), (2, 3), (3, 2)).mask((6, 5))
    method = InstanceGradCamPlusPlus(model, find_layer(model, "first"))
    with pytest.raises(SegxaiError, match="mask has 6 x 5 voxels, but the model's output has 12 x"):
        method.attribute(image, instance=mask)


def test_a_coarse_layer_is_resampled_linearly_to_the_grid():
    model, image = net2d(), image_of((3, 12, 10))
    instance = block((12, 10), (4, 4), (3, 3))
    activations, gradients = layer_and_gradient(model, model.down, image, instance)
    heat = literal.grad_cam(activations, gradients, localised=True)
    wanted = nn.functional.interpolate(
        torch.from_numpy(heat)[None, None], size=(12, 10), mode="bilinear"
    )
    found = InstanceGradCamPlusPlus(model, model.down).attribute(image, instance=instance)
    assert literal.worst(found.double(), wanted) < TOLERANCE


def test_windows_are_explained_alone_and_blended_by_their_shares():
    model, shape = net2d(), (24, 16)
    layout = sliding_window(shape, (16, 16), 0.5)
    image, instance = image_of((3, *shape)), block(shape, (9, 5), (4, 4))
    wanted = torch.zeros(shape)
    assert len(layout.windows) == 2
    for window in layout.windows:
        crop, inner = image[window.index], instance.seen_from(window)
        kept = []
        hook = model.first.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        logits = model(crop)[0, 1]
        hook.remove()
        inside = [tuple(v) for v in inner.voxels if (v >= 0).all() and (v < 16).all()]
        total = sum(logits[v] * layout.share(window)[v] for v in inside)
        (gradients,) = torch.autograd.grad(total, kept[0])
        heat = literal.grad_cam(kept[0].detach()[0], gradients[0], localised=True)
        wanted[window.index] += torch.from_numpy(heat).float() * layout.share(window)
    method = InstanceGradCamPlusPlus(Predictor(model, layout), model.first)
    found = method.attribute(image, instance=instance)[0, 0]
    assert literal.worst(found, wanted) < TOLERANCE


def test_the_heat_of_a_window_larger_than_the_image_keeps_its_place():
    """It is resampled to all of the window, and the part on the grid is taken."""
    model, shape = net2d(), (9, 24)
    layout = sliding_window(shape, (16, 16), 0.5)
    image, instance = image_of((3, *shape)), block(shape, (3, 9), (4, 4))
    wanted = torch.zeros(shape)
    assert len(layout.windows) == 2
    for window in layout.windows:
        above, first = -window.start[0], window.start[1]
        below, on_grid = 16 - 9 - above, slice(first, first + 16)
        assert above > 0
        assert below > 0
        share = layout.share(window)
        kept = []
        hook = model.down.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        logits = model(functional.pad(image[..., on_grid], (0, 0, above, below)))[0, 1]
        hook.remove()
        total = sum(
            logits[above + y, x - first] * share[y, x - first]
            for y, x in instance.voxels
            if first <= x < first + 16
        )
        (gradients,) = torch.autograd.grad(total, kept[0])
        heat = literal.grad_cam(kept[0].detach()[0], gradients[0], localised=True)
        heat = torch.from_numpy(heat).float()[None, None]
        heat = functional.interpolate(heat, size=(16, 16), mode="bilinear")[0, 0]
        wanted[:, on_grid] += heat[above : above + 9] * share
    method = InstanceGradCamPlusPlus(Predictor(model, layout), model.down)
    found = method.attribute(image, instance=instance)[0, 0]
    assert literal.worst(found, wanted) < TOLERANCE


@pytest.mark.parametrize("score", ["logit", "margin", "probability"])
def test_heat_maps_are_those_of_a_network_that_interpolates_itself(score):
    size = (24, 20)

    class Interpolating(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = coarse_network()

        def forward(self, x):
            return functional.interpolate(self.network(x), size, mode="bilinear")

    itself = Interpolating()
    outside = Predictor(itself.network, whole_image(size), readout=Readout.linear((6, 5), size))
    instance = Instance(1, np.argwhere(np.ones((4, 5))) + 7, class_index=1)
    maps = [
        InstanceGradCamPlusPlus(model, itself.network[2], score=score).attribute(
            image_of((2, *size), seed=1), instance=instance
        )
        for model in (itself, outside)
    ]
    assert maps[0].any()
    torch.testing.assert_close(maps[0], maps[1], atol=1e-6, rtol=1e-5)


def test_the_weights_have_a_closed_form_for_positive_gradients():
    activations = torch.tensor([[[1.0, 2.0, 3.0]]])
    gradients = torch.tensor([[[0.5, -1.0, 0.25]]])
    alpha = grad_cam_weights(activations, gradients).alpha
    assert torch.allclose(alpha, torch.tensor([[[1 / (2 + 6 * 0.5), 0.0, 1 / (2 + 6 * 0.25)]]]))


def test_a_denominator_at_zero_gives_zero_and_a_negative_one_is_kept_and_counted():
    activations = torch.tensor([[[-1.0, -1.0]]])  # sum -2
    gradients = torch.tensor([[[1.0, 3.0]]])  # denominators 0 and -4
    weights = grad_cam_weights(activations, gradients)
    assert torch.allclose(weights.alpha, torch.tensor([[[0.0, -0.25]]]))
    assert weights.suspect == 1.0


def test_many_denominators_below_zero_are_warned_of():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        model[0].weight.fill_(-5)
        model[1].weight.fill_(1)
    image, instance = torch.ones(1, 1, 6, 6), block((6, 6), (2, 2), (2, 2))
    method = InstanceGradCamPlusPlus(model, model[0])
    with pytest.warns(UserWarning, match="have a denominator of 0 or below"):
        method.attribute(image, instance=instance)
    assert method.suspect[0] > 0.01


@pytest.mark.parametrize(("maps", "warned"), [(20, True), (200, False)])
def test_more_than_one_suspect_coefficient_in_a_hundred_is_warned_of(maps, warned):
    """Of this many feature maps, one sums to below 0."""
    model = nn.Sequential(nn.Conv2d(1, maps, 1), nn.Conv2d(maps, 2, 1))
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].weight[3] = -5
        model[1].weight.fill_(1)
    method = InstanceGradCamPlusPlus(model, model[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.attribute(torch.ones(1, 1, 6, 6), instance=block((6, 6), (2, 2), (2, 2)))
    assert method.suspect == pytest.approx([1 / maps])
    assert bool(caught) == warned


def two_layers(first, last, bias=0.0):
    """A layer of three maps, each `first` times the image plus a bias; a logit of `last` each."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        for one, value in zip(model.parameters(), (first, bias, last, 0.0), strict=True):
            one.fill_(value)
    return model


@pytest.mark.parametrize(
    ("model", "layer", "reason"),
    [
        (two_layers(-1, 1), 1, "the layer's features are all 0"),
        (two_layers(1, 0), 1, "the score does not depend on the layer's features"),
        (two_layers(1, -1), 1, "no feature of the layer raises the score"),
        (two_layers(-0.01, 1, 0.005), 0, "the score does not depend on the layer's features"),
        (nn.Sequential(two_layers(-0.01, 1)[0], two_layers(1, 0.1)[2]), 0, "is nowhere above 0"),
    ],
)
def test_a_map_that_is_0_everywhere_says_why(model, layer, reason):
    method = InstanceGradCamPlusPlus(model, model[layer])
    with pytest.warns(SegxaiWarning, match=f"heat map is 0 everywhere: .*{reason}"):
        found = method.attribute(torch.ones(1, 1, 6, 6), instance=block((6, 6), (2, 2), (2, 2)))
    assert not found.any()


def test_a_map_of_two_windows_is_0_only_if_both_are():
    model, layout = two_layers(1, 1), sliding_window((6, 12), (6, 6), 0)
    image, instance = torch.ones(1, 1, 6, 12), block((6, 12), (2, 3), (2, 6))
    image[..., 6:] = -1
    method = InstanceGradCamPlusPlus(Predictor(model, layout), model[1])
    assert method.attribute(image, instance=instance).any()  # and no warning
    assert [bool(reason) for reason in method.nothing] == [False, True]


def test_a_layer_that_runs_twice_is_warned_of_and_is_its_last_run():
    relu = nn.ReLU()
    model = literal.seeded(
        nn.Sequential(
            nn.Conv2d(3, 4, 1), relu, nn.Conv2d(4, 4, 3, padding=1), relu, nn.Conv2d(4, 2, 1)
        )
    )
    image, instance = image_of((3, 12, 10)), block((12, 10), (4, 4), (3, 3))
    once = nn.Sequential(*model[:3], nn.ReLU(), model[4])
    wanted = InstanceGradCamPlusPlus(once, once[3]).attribute(image, instance=instance)
    with pytest.warns(SegxaiWarning, match="layer '1' runs 2 times in each pass; .* its last run"):
        found = InstanceGradCamPlusPlus(model, relu).attribute(image, instance=instance)
    assert torch.equal(found, wanted)


def test_the_instance_level_leaves_other_instances_alone():
    """Two equal discs: the instance's map is on its own disc, the class's on both."""
    model = literal.seeded(
        nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    )
    image = torch.zeros(1, 1, 20, 30)
    image[..., 8:12, 5:9] = image[..., 8:12, 20:24] = 2.0
    settings = Asked(layer="0")
    predictor = Predictor(model, whole_image((20, 30)))
    one = grad_cam(predictor, image, block((20, 30), (8, 5), (4, 4)), *settings).on_grid((20, 30))
    both = block((20, 30), (8, 5), (4, 4)).mask((20, 30)) | block((20, 30), (8, 20), (4, 4)).mask(
        (20, 30)
    )
    whole = class_grad_cam(predictor, image, Instance.from_mask(both, label=0), *settings).on_grid(
        (20, 30)
    )
    assert one[8:12, 5:9].max() > 0
    assert one[8:12, 20:24].max() == 0
    assert whole[8:12, 20:24].max() > 0


def test_hooks_are_gone_after_success_and_after_failure():
    model = net2d()
    method = InstanceGradCamPlusPlus(model, model.first)
    instance = block((12, 10), (4, 4), (2, 2))
    method.attribute(image_of((3, 12, 10)), instance=instance)
    with pytest.raises(SegxaiError, match="fails on an input"):
        method.attribute(image_of((2, 12, 10)), instance=instance)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
