"""Relevance is what its definition says, sums to the score, and leaves the model as it was."""

import numpy as np
import pytest
import torch
from segxai_lrp import SUMMARIES, LrpOptions, attribute, rules_of
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit.composites import LayerMapComposite

from segxai import (
    Context,
    Instance,
    MethodOptions,
    Predictor,
    SegxaiError,
    load_method,
    sliding_window,
    whole_image,
)

SHAPE = (14, 12)


def seeded(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
                if "var" in name:
                    tensor.abs_().add_(0.5)
    return network.eval()


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


def image(shape=SHAPE):
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1))


def block(shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[5:8, 4:8] = True
    return Instance.from_mask(mask)


def explain(network, layout=None, name="lrp", instance=None, **settings):
    predictor = Predictor(network, layout or whole_image(SHAPE))
    options = MethodOptions(**settings)
    found = attribute(
        name, predictor, image(), instance or block(), options, Context(own=LrpOptions())
    )
    return torch.from_numpy(found.on_grid(SHAPE)), found.facts


def score(predict, leaf, instance):
    return predict(leaf)[0, 1][tuple(torch.from_numpy(instance.voxels.T))].mean()


def fingerprint(network):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    modes = [m.training for m in network.modules()] + [
        p.requires_grad for p in network.parameters()
    ]
    places = [p.data_ptr() for p in network.parameters()]
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    return (hooks, modes, places), tensors


def assert_same(network, before):
    facts, tensors = fingerprint(network)
    assert facts == before[0]
    assert tensors.keys() == before[1].keys()
    assert all(torch.equal(value, before[1][name]) for name, value in tensors.items())


def close(found, wanted, tolerance=1e-4):
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


# ------------------------------------------------------------------------------------ closed forms

LAYOUTS = {
    "whole": whole_image(SHAPE),
    "windows": sliding_window(SHAPE, (8, 8), 0.25),
    "padded": sliding_window(SHAPE, (16, 16), 0.25),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_without_biases_it_is_gradient_times_input_and_sums_to_the_score(layout):
    network = convolutions()
    found, facts = explain(network, layout)
    leaf = image().requires_grad_()
    total = score(Predictor(network, layout), leaf, block())
    total.backward()
    total = float(total.detach())
    close(found, (leaf.grad * leaf).detach()[0])
    assert float(found.sum()) == pytest.approx(total, rel=1e-4)
    assert facts["relevance"] == pytest.approx(total, rel=1e-4)
    assert facts["mean_logit"] == pytest.approx(total, rel=1e-5)


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
        z = z + LrpOptions().epsilon * torch.where(z >= 0, 1.0, -1.0)
        relevance = ((relevance.flatten() / z) @ parts).reshape(x.shape)
    network.float()
    return relevance


@pytest.mark.parametrize("name", SUMMARIES)
def test_it_is_the_rule_by_its_matrices(name):
    network = convolutions(bias=True)
    found, _ = explain(network, name=name)
    close(found.double(), literal(network, image(), block(), name == "lrp_plus"))


def test_windows_are_explained_one_by_one():
    """The relevance of each window's logit is share x logit, not a share of the blend's."""
    network, layout, instance = convolutions(bias=True), LAYOUTS["windows"], block()
    found, _ = explain(network, layout)
    total = torch.zeros_like(found)
    for window in layout.windows:
        leaf = image()[window.index].requires_grad_()
        weights = torch.zeros(SHAPE)
        weights[window.index] = layout.share(window)
        weights = (weights * torch.from_numpy(instance.mask(SHAPE)) / len(instance.voxels))[
            window.index
        ]
        with LayerMapComposite(rules_of("lrp", 1e-6)).context(network) as carrying:
            logits = carrying(leaf)
            start = torch.zeros_like(logits)
            start[0, 1] = logits[0, 1].detach() * weights
            total[window.index] += torch.autograd.grad(logits, leaf, start)[0][0]
    close(found, total)


# --------------------------------------------------------------------------------- batch norms etc.


@pytest.mark.parametrize("inplace", [False, True])
def test_a_batch_norm_is_merged_into_the_layer_before_it(inplace):
    network = seeded(Normed(inplace))
    found, _ = explain(network)
    fused = seeded(Normed())
    fused.up, fused.norm = fuse_conv_bn_eval(fused.up, fused.norm, transpose=True), nn.Identity()
    close(found, explain(fused)[0])


def test_the_mean_logit_is_that_of_the_network():
    network = seeded(Normed())
    _, facts = explain(network)
    with torch.no_grad():
        assert facts["mean_logit"] == pytest.approx(
            float(score(network, image(), block())), rel=1e-4
        )


class Branching(Normed):
    def forward(self, image):
        made = self.up(self.down(image))
        return self.last(self.norm(made) + made)


class Twice(Normed):
    def forward(self, image):
        return super().forward(image) + super().forward(image.flip(2))


class Fails(Normed):
    def forward(self, image):
        if self.last._forward_hooks:
            raise ZeroDivisionError("a bug")
        return super().forward(image)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Branching, SegxaiError, "cannot merge the batch norms"),
        (Twice, SegxaiError, "needs a network whose layers run once"),
        (Fails, SegxaiError, "ZeroDivisionError: a bug"),
    ],
)
def test_what_it_cannot_explain_is_said_and_the_model_left_alone(kind, error, words):
    network = seeded(kind()).train()
    before = fingerprint(network)
    with pytest.raises(error, match=words):
        explain(network)
    assert_same(network, before)


@pytest.mark.parametrize("network", [convolutions(), seeded(Normed(inplace=True)).train()])
@pytest.mark.parametrize("name", SUMMARIES)
def test_the_model_is_left_as_it_came(network, name):
    before = fingerprint(network)
    explain(network, LAYOUTS["windows"], name)
    assert_same(network, before)


def test_scores_that_are_not_sums_are_refused():
    with pytest.raises(SegxaiError, match="decomposes the logit, not the probability"):
        explain(convolutions(), score=("probability",))


@pytest.mark.parametrize("name", SUMMARIES)
def test_segxai_finds_it_by_name(name):
    assert load_method(name).name == name
    assert load_method(name).options is LrpOptions


def test_a_large_epsilon_absorbs_relevance():
    network, image_, target = convolutions(), image(), block()
    found = []
    for epsilon in (1e-6, 10.0):
        context, predictor = (
            Context(own=LrpOptions(epsilon)),
            Predictor(network, whole_image(SHAPE)),
        )
        one = attribute("lrp", predictor, image_, target, MethodOptions(), context)
        found.append(abs(one.values).sum())
    assert found[1] < 0.5 * found[0]
