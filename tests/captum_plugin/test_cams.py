"""CAMs: Captum's own on whole images, and a slow literal blend in windows."""

from dataclasses import replace

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional

from segxai import (
    Case,
    Context,
    InstanceCam,
    MethodOptions,
    Predictor,
    SegxaiError,
    SegxaiWarning,
    load_method,
    whole_image,
)
from tests import literal
from tests.captum_plugin.subjects import Subject, assert_same, fingerprint, flat, read_out, solid
from tests.networks import block, image_of, net2d, small_unet

TOLERANCE = 1e-5
NAMES = ("gradcam", "hirescam", "layercam")
MODES = {2: "bilinear", 3: "trilinear"}


def rule(name, activations, gradients):
    """The heat (*layer) of features and gradients (map, *layer), by the papers' formulas."""
    heat = torch.zeros(activations.shape[1:])
    for a, g in zip(activations, gradients, strict=True):
        heat = heat + {"gradcam": g.mean(), "hirescam": g, "layercam": g.clamp(min=0)}[name] * a
    return heat.clamp(min=0)


def explain(subject, name, layer, score="logit", contrast=None):
    options = MethodOptions(method=name, score=(score,), layer=layer)
    found = load_method(name).attribute(
        subject.predictor,
        subject.image,
        subject.instance,
        options,
        Context(case=subject.case, contrast=contrast),
    )
    return torch.from_numpy(found.on_grid(tuple(subject.image.shape[2:]))), found


def whole(network, shape):
    axes = len(shape) - 1
    instance = block(shape[1:], (3,) * axes, (2,) * axes)
    image = image_of(shape)
    predictor = Predictor(network, whole_image(shape[1:]))
    return Subject(predictor, image, instance, Case.of_array(image[0].numpy()))


WHOLE = {
    "fine": (net2d, (3, 12, 10), "first"),
    "coarse": (net2d, (3, 12, 10), "down"),
    "solid": (small_unet, (2, 8, 8, 8), "model.2.conv"),
}


@pytest.mark.parametrize(
    ("score", "contrast"),
    [("logit", None), ("probability", None), ("logit", "border"), ("margin", 0)],
)
@pytest.mark.parametrize("kind", WHOLE)
def test_they_are_captums_on_whole_images(kind, score, contrast):
    make, shape, name = WHOLE[kind]
    subject = whole(make(), shape)
    layer = subject.predictor.network.get_submodule(name)
    number = subject.score(score, contrast)
    grad_cam = captum.attr.LayerGradCam(number, layer)
    times = captum.attr.LayerGradientXActivation(number, layer)
    theirs = {
        "gradcam": grad_cam.attribute(subject.image, relu_attributions=True),
        "hirescam": times.attribute(subject.image).sum(dim=1, keepdim=True).relu(),
    }
    for method, coarse in theirs.items():
        wanted = captum.attr.LayerAttribution.interpolate(
            coarse.detach(), shape[1:], interpolate_mode=MODES[len(shape) - 1]
        )[0, 0]
        found, attribution = explain(subject, method, name, score, contrast)
        assert wanted.max() > 0
        assert literal.worst(found, wanted) < TOLERANCE
        assert attribution.unit == "arbitrary"
        assert attribution.facts["layer"] == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("make", "layer"), [(flat, "2"), (solid, "model.1.submodule.0.conv")])
def test_windows_are_explained_alone_and_blended_by_their_shares(make, layer, name):
    subject = make()
    predictor, shape = subject.predictor, tuple(subject.image.shape[2:])
    module, wanted = predictor.network.get_submodule(layer), torch.zeros(shape)
    voxels, size = subject.instance.voxels, predictor.layout.windows[0].size
    for window in predictor.layout.windows:
        kept = []
        hook = module.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        leaf = subject.image[window.index].clone().requires_grad_()
        logits = predictor.network(leaf)[0, 1]
        hook.remove()
        share = predictor.layout.share(window)
        places = [tuple(v - a for v, a in zip(one, window.start, strict=True)) for one in voxels]
        seen = [p for p in places if all(0 <= x < n for x, n in zip(p, size, strict=True))]
        if not seen:
            continue
        total = sum(logits[p] * share[p] for p in seen) / len(voxels)
        (gradients,) = torch.autograd.grad(total, kept[0])
        heat = rule(name, kept[0].detach()[0], gradients[0])
        heat = functional.interpolate(heat[None, None], size, mode=MODES[len(size)])[0, 0]
        wanted[window.index] += heat * share
    found, _ = explain(subject, name, layer)
    assert wanted.max() > 0
    assert literal.worst(found, wanted) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_coarse_logits_are_read_at_the_picture(name):
    subject = read_out()
    layer = subject.predictor.network[2]
    kept = []
    hook = layer.register_forward_hook(lambda _, __, out: kept.append(out))
    total = subject.score()(subject.image.clone().requires_grad_())
    hook.remove()
    (gradients,) = torch.autograd.grad(total.sum(), kept[0])
    heat = rule(name, kept[0].detach()[0], gradients[0])
    wanted = functional.interpolate(heat[None, None], (16, 20), mode="bilinear")[0, 0]
    assert wanted.max() > 0
    assert literal.worst(explain(subject, name, "2")[0], wanted) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "title"), [("gradcam", "Grad-CAM"), ("hirescam", "HiRes"), ("layercam", "Layer")]
)
def test_a_map_that_is_0_everywhere_says_why(name, title):
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        for one, value in zip(network.parameters(), (1.0, 0.0, -1.0, 0.0), strict=True):
            one.fill_(value)
    subject = whole(network, (1, 6, 6))
    subject = replace(subject, image=torch.ones(1, 1, 6, 6))
    with pytest.warns(
        SegxaiWarning, match=f"{title}.*0 everywhere: no feature of the layer raises"
    ):
        found, _ = explain(subject, name, "1")
    assert not found.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_left_as_it_came(name):
    subject = flat()
    network = subject.predictor.network.train()
    before = fingerprint(network)
    explain(subject, name, "2")
    assert_same(network, before)


def test_a_layer_is_needed():
    with pytest.raises(SegxaiError, match="HiResCAM needs a layer: name one"):
        explain(flat(), "hirescam", None)
    with pytest.raises(SegxaiError, match="unknown layer 'lats'.*did you mean 'last'"):
        InstanceCam(net2d(), "lats", lambda a, g: a)
