"""Relevance is what its definition says, sums to the score, and leaves the model as it was."""

import importlib.util

import pytest
import torch
from segxai_captum.relevance import rules_of
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit.composites import LayerMapComposite

from segxai import Case, Predictor, SegxaiError, load_method, sliding_window, whole_image
from segxai.methods.own_options import own_options
from tests.captum_plugin.subjects import Subject, assert_same, fingerprint, read_out
from tests.literal import seeded, worst
from tests.networks import block, image_of

SHAPE = (14, 12)
LAYOUTS = {
    "whole": whole_image(SHAPE),
    "windows": sliding_window(SHAPE, (8, 8), 0.25),
    "padded": sliding_window(SHAPE, (16, 16), 0.25),
}


def convolutions(bias=False):
    return seeded(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(5, 4, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(4, 2, 1, bias=bias),
        )
    )


class Normed(nn.Module):
    """Layers that are not registered in the order in which they run."""

    def __init__(self, inplace=False):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=inplace)
        self.up = nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False)
        self.down = nn.Conv2d(2, 3, 2, stride=2)

    def forward(self, image):
        return self.last(self.act(self.norm(self.up(torch.relu(self.down(image))))))


def subject(network, layout=None):
    image = image_of((2, *SHAPE), seed=1)
    predictor = Predictor(network, layout or whole_image(SHAPE))
    return Subject(predictor, image, block(SHAPE, (5, 4), (3, 4)), Case.of_array(image[0].numpy()))


def explain(network, layout=None, **more):
    found, attribution = subject(network, layout).explain("lrp", **more)
    return found, attribution.facts


# ------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("contrast", [None, "border", 0])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_without_biases_it_is_gradient_times_input_and_sums_to_the_score(layout, contrast):
    network = convolutions()
    found, facts = explain(network, layout, context={"contrast": contrast})
    one = subject(network, layout)
    leaf = one.image.clone().requires_grad_()
    total = one.score(contrast=contrast)(leaf).sum()
    total.backward()
    assert worst(found, (leaf.grad * leaf).detach()[0]) < 1e-4
    assert float(found.sum()) == pytest.approx(float(total.detach()), rel=1e-4)
    assert facts["relevance"] == pytest.approx(float(total.detach()), rel=1e-4)
    assert facts["mean_score"] == pytest.approx(float(total.detach()), rel=1e-4)


def test_relevance_passes_through_a_readout():
    one = read_out()
    network = one.predictor.network
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)
    found, _ = one.explain("lrp")
    leaf = one.image.clone().requires_grad_()
    one.score()(leaf).sum().backward()
    assert worst(found, (leaf.grad * leaf).detach()[0]) < 1e-4


def literal(network, leaf, instance, positive):
    """Relevance layer by layer, from each layer's matrix: R_j = sum_k x_j W_kj / z_k R_k."""
    activations = [leaf[0].double()]
    for layer in network:
        activations.append(layer.double()(activations[-1][None])[0].detach())
    relevance = torch.zeros_like(activations[-1])
    index = tuple(torch.from_numpy(instance.voxels.T))
    relevance[1][index] = activations[-1][1][index] / len(instance.voxels)
    for layer, x in zip(reversed(network), reversed(activations[:-1]), strict=True):
        if isinstance(layer, nn.ReLU):
            continue
        zero = torch.zeros_like(x)
        with torch.no_grad():
            bias = layer(zero[None])[0].flatten()
            columns = [
                layer(one.reshape(x.shape)[None])[0].flatten() - bias
                for one in torch.eye(x.numel(), dtype=torch.float64)
            ]
        parts = torch.stack(columns, dim=1) * x.flatten()  # (output, input)
        if positive:
            parts, bias = parts.clamp(min=0), bias.clamp(min=0)
        z = parts.sum(dim=1) + bias
        z = z + 1e-6 * torch.where(z >= 0, 1.0, -1.0)
        relevance = ((relevance.flatten() / z) @ parts).reshape(x.shape)
    network.float()
    return relevance


@pytest.mark.parametrize("composite", ["epsilon", "plus"])
def test_it_is_the_rule_by_its_matrices(composite):
    network = convolutions(bias=True)
    found, _ = explain(network, composite=composite)
    one = subject(network)
    wanted = literal(network, one.image, one.instance, composite == "plus")
    assert worst(found.double(), wanted) < 1e-4


@pytest.mark.parametrize("composite", ["epsilon", "gamma", "alpha2beta1"])
def test_windows_are_explained_one_by_one(composite):
    """The relevance of each window's logit is share x logit, not a share of the blend's."""
    network, layout = convolutions(bias=True), LAYOUTS["windows"]
    one = subject(network, layout)
    found, _ = explain(network, layout, composite=composite)
    total = torch.zeros_like(found)
    for window in layout.windows:
        leaf = one.image[window.index].clone().requires_grad_()
        weights = torch.zeros(SHAPE)
        weights[window.index] = layout.share(window)
        inside = torch.from_numpy(one.instance.mask(SHAPE)) / len(one.instance.voxels)
        with LayerMapComposite(rules_of(composite, 1e-6, 0.25)).context(network) as carrying:
            logits = carrying(leaf)
            start = torch.zeros_like(logits)
            start[0, 1] = logits[0, 1].detach() * (weights * inside)[window.index]
            total[window.index] += torch.autograd.grad(logits, leaf, start)[0][0]
    assert worst(found, total) < 1e-4


def test_a_large_epsilon_absorbs_relevance():
    network = convolutions()
    small, large = (explain(network, epsilon=epsilon)[0].abs().sum() for epsilon in (1e-6, 10.0))
    assert large < 0.5 * small


# --------------------------------------------------------------- networks that it fits, or does not


@pytest.mark.parametrize("inplace", [False, True])
def test_a_batch_norm_is_merged_into_the_layer_before_it(inplace):
    found, _ = explain(seeded(Normed(inplace)))
    fused = seeded(Normed())
    fused.up, fused.norm = fuse_conv_bn_eval(fused.up, fused.norm, transpose=True), nn.Identity()
    assert worst(found, explain(fused)[0]) < 1e-4


class Branching(Normed):
    def forward(self, image):
        made = self.up(self.down(image))
        return self.last(torch.cat([self.norm(made)[:, :2], made[:, 2:]], dim=1))


class Residual(Normed):
    def forward(self, image):
        made = self.norm(self.up(self.down(image)))
        return self.last(self.act(made) + made)


class Gated(Normed):
    def forward(self, image):
        made = self.norm(self.up(self.down(image)))
        return self.last(self.act(made) * torch.sigmoid(made))


class Normalised(Normed):
    def forward(self, image):
        return super().forward(functional.instance_norm(image))


class Twice(Normed):
    def forward(self, image):
        return torch.cat([super().forward(image)[:, :1], super().forward(image.flip(2))[:, :1]], 1)


class Fails(Normed):
    def forward(self, image):
        if self.last._forward_hooks:
            raise ZeroDivisionError("a bug")
        return super().forward(image)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Branching, "cannot merge the batch norms"),
        (Residual, "no rule for this network: it adds two branches .* take another method"),
        (Gated, "no rule for this network: it multiplies features with each other"),
        (Normalised, "no rule for this network: it normalises each image by its own statistics"),
        (Twice, "needs a network whose layers run once"),
        (Fails, "ZeroDivisionError: a bug"),
    ],
)
def test_what_it_cannot_explain_is_said_and_the_model_left_alone(kind, words):
    network = seeded(kind()).train()
    before = fingerprint(network)
    with pytest.raises(SegxaiError, match=words):
        explain(network)
    assert_same(network, before)


@pytest.mark.parametrize("composite", ["epsilon", "plus"])
@pytest.mark.parametrize("make", [convolutions, lambda: seeded(Normed(inplace=True)).train()])
def test_the_model_is_left_as_it_came(make, composite):
    network = make()
    before = fingerprint(network)
    explain(network, LAYOUTS["windows"], composite=composite)
    assert_same(network, before)


def test_scores_that_are_not_sums_are_refused():
    with pytest.raises(SegxaiError, match="decomposes the logit, not the probability"):
        explain(convolutions(), score="probability")


def test_without_zennit_it_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "segxai_captum.lrp.find_spec", lambda name: None if name == "zennit" else find(name)
    )
    with pytest.raises(SegxaiError, match=r"lrp needs zennit.*pip install 'segxai\[lrp\]'"):
        own_options(load_method("lrp"), {})
