"""Checks of the network: every lie is caught by its own message."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segxai import Grid, Predictor, whole_image
from segxai.segment.readout import Readout
from tests.testing.checks import (
    GRADIENTS,
    INPUT,
    INSTANCES,
    LAYER,
    LEFT,
    LOGITS,
    REFERENCE,
    REPEATED,
    SAME_WEIGHTS,
    SHAPE,
    TWICE,
    broken,
    findings,
    raise_error,
    with_network,
)
from tests.toy.segxai_toy import TOY, bare_case, picture

FORMS = {
    "a list": (lambda made: [made], "logits are taken out of a list"),
    "a mapping": (lambda made: {"out": made, "aux": made}, "logits are taken out of a dict"),
    "deep supervision": (
        lambda made: (nn.functional.avg_pool3d(made, 2), made),
        "logits are taken out of a tuple",
    ),
    "a half": (
        lambda made: nn.functional.avg_pool3d(made, 2),
        "logits at 1/2 of the resolution are interpolated linearly",
    ),
    "a quarter": (
        lambda made: (nn.functional.avg_pool3d(made, 4),),
        "logits are taken out of a tuple; logits at 1/4 of the resolution are interpolated "
        "linearly",
    ),
}


@pytest.mark.filterwarnings(
    "ignore:the network:segxai.SegxaiWarning"
)  # of a choice, of coarse logits
@pytest.mark.parametrize(("change", "words"), FORMS.values(), ids=FORMS)
def test_another_form_of_logits_is_told_and_no_failure(change, words):
    found = findings(with_network(lambda network, forward, image: change(forward(image))))
    assert found[INPUT].holds
    assert found[INPUT].detail == words
    unkept = {what for what, finding in found.items() if not finding.holds}
    # Coarse logits of so small balls are below the threshold: then there is nothing to explain.
    assert unkept <= {INSTANCES, REFERENCE, REPEATED}


def test_the_tensor_that_the_adapter_names_is_checked():
    adapter = with_network(lambda network, forward, image: (-forward(image), forward(image)))
    assert "say which, by name or number" in broken(adapter)[INPUT]
    named = replace(adapter, predict=replace(adapter.predict, output=1))
    assert findings(named)[INPUT].detail == "logits are taken out of a tuple"
    assert broken(named) == {}


def change_weights(network, forward, image):
    with torch.no_grad():
        network.logits.bias += torch.tensor([1e-3, -1e-3])  # a sum would not notice
    return forward(image)


def switch_mode(network, forward, image):
    network.train()
    return forward(image)


def add_hook(network, forward, image):
    network.features.register_forward_hook(lambda *arguments: None)
    return forward(image)


def add_pre_hook(network, forward, image):
    network.features.register_forward_pre_hook(lambda *arguments: None)
    return forward(image)


def unfreeze(network, forward, image):
    network.logits.weight.requires_grad_(True)
    return forward(image)


def update_statistics(network, forward, image):
    mean = getattr(network, "mean", torch.zeros(2))
    network.register_buffer("mean", mean, persistent=False)
    made = forward(image)
    return nn.functional.batch_norm(made, network.mean, torch.ones(2), training=True)


def count(network, forward, image):
    network.register_buffer("count", getattr(network, "count", torch.zeros(())) + 1)
    return forward(image)


NETWORKS = {
    "probabilities": (
        lambda network, forward, image: forward(image).softmax(dim=1),
        {LOGITS: "the network returns probabilities: leave out its last softmax or sigmoid"},
    ),
    "log-probabilities": (
        lambda network, forward, image: forward(image).log_softmax(dim=1),
        {LOGITS: "the network returns log-probabilities: leave out its last log-softmax"},
    ),
    "random": (
        lambda network, forward, image: forward(image + 0.01 * torch.randn_like(image)),
        {TWICE: "two passes in evaluation mode differ: something in the network is random"},
    ),
    "dropout that is always on": (
        lambda network, forward, image: forward(nn.functional.dropout(image, training=True)),
        {TWICE: "two passes in evaluation mode differ: something in the network is random"},
    ),
    "probabilities of each class": (
        lambda network, forward, image: forward(image).sigmoid(),
        {LOGITS: "the network returns probabilities: leave out its last softmax or sigmoid"},
    ),
    "a coarser grid of no known stride": (
        lambda network, forward, image: nn.functional.avg_pool3d(forward(image), 3),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (1, 2, 6, 6, 5); segxai needs logits"},
    ),
    "a larger grid": (
        lambda network, forward, image: nn.functional.pad(forward(image), [1] * 6),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (1, 2, 22, 20, 18); segxai needs logits"},
    ),
    "another number of channels": (
        lambda network, forward, image: nn.functional.conv3d(image, torch.ones(1, 3, 1, 1, 1)),
        {INPUT: "given (1, 2, 20, 18, 16), channels bright, other: the network fails on an input"},
    ),
    "a batch": (
        lambda network, forward, image: forward(torch.cat([image, image])),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (2, 2, 20, 18, 16)"},
    ),
    "another number of classes": (
        lambda network, forward, image: forward(image)[:, :1],
        {SHAPE: "(1, 2, 20, 18, 16) gives (1, 1, 20, 18, 16), not (1, 2, 20, 18, 16)"},
    ),
    "a number": (
        lambda network, forward, image: 1.0,
        {INPUT: "the network returns a float; segxai needs a tensor of logits"},
    ),
    "nothing is found": (
        lambda network, forward, image: forward(image) - 20 * torch.eye(2)[1][:, None, None, None],
        {INSTANCES: "no instance of class 'ball' is found in it: look at threshold"},
    ),
    "not a number": (
        lambda network, forward, image: forward(image) * torch.nan,
        {SHAPE: "logits are not finite"},
    ),
    "a deaf channel": (
        lambda network, forward, image: forward(image * torch.tensor([1, 0])[:, None, None, None]),
        {GRADIENTS: "no gradient reaches channel other"},
    ),
    "deaf": (
        lambda network, forward, image: forward(image.round()),
        {GRADIENTS: "no gradient reaches channel bright, other"},
    ),
    "detached": (
        lambda network, forward, image: forward(image.detach()),
        {GRADIENTS: "no gradient reaches the image: the network detaches it, or runs in no_grad"},
    ),
    "changing weights": (change_weights, {LEFT: "its tensor logits.bias"}),
    "changing mode": (switch_mode, {LEFT: "its mode of the whole"}),
    "growing hooks": (add_hook, {LEFT: "its hooks of features"}),
    "growing pre-hooks": (add_pre_hook, {LEFT: "its hooks of features"}),
    "wanting gradients": (unfreeze, {LEFT: "its gradient of logits.weight"}),
    "statistics of a batch": (update_statistics, {LEFT: "its tensor mean"}),
    "counting passes": (count, {LEFT: "its tensor count"}),
}


@pytest.mark.parametrize(("change", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_lies_is_caught(change, expected):
    wrong = broken(with_network(change))
    for promise, words in expected.items():
        assert promise in wrong, wrong
        assert words in wrong[promise]
    if INPUT in expected:  # nothing else can be looked at
        assert list(wrong) == [INPUT]


def test_random_weights_are_caught():
    adapter = replace(TOY, load_network=lambda: nn.Conv3d(2, 2, 3, padding=1), layer=None)
    wrong = broken(adapter)
    assert wrong[SAME_WEIGHTS] == "loaded twice, weight differs: the weights are random"
    assert set(wrong) == {SAME_WEIGHTS, "a run can be repeated"}


class WithTokens(type(TOY.load_network())):
    """Its layer `mixed` runs on pooled features, whose place in the image is lost."""

    def __init__(self):
        super().__init__()
        self.mixed, self.unused = nn.Linear(4, 2), nn.Conv3d(2, 2, 3)

    def forward(self, image):
        pooled = self.features(image).mean((2, 3, 4))
        return super().forward(image) + 0 * self.mixed(pooled)[..., None, None, None]


@pytest.mark.parametrize(
    ("layer", "words"),
    [("mixed", "'mixed'"), ("unused", "layer 'unused' does not run when the network predicts")],
)
def test_a_layer_that_cam_methods_cannot_read(layer, words):
    wrong = broken(replace(TOY, load_network=WithTokens, layer=layer))
    assert words in wrong.pop(LAYER)
    assert not set(wrong) - {SAME_WEIGHTS}


def test_the_layout_of_the_layer_is_told():
    assert findings(TOY)[LAYER].detail == "active, channels_first"


def read_out(shape):
    """An adapter whose instances live on another grid than its image."""
    grid = Grid(shape, np.eye(4))

    def build(network, case, criteria):
        layout = whole_image(case.grid.shape)
        return Predictor(network, layout, readout=Readout.linear(case.grid.shape, shape))

    def case():
        return replace(bare_case(picture()), source_grid=grid, domains_on_source=True)

    return replace(TOY, predict=build, embedded_case=case, load_case=raise_error)


def test_logits_on_the_grid_of_instances_are_fine():
    assert broken(read_out((30, 27, 24))) == {}
    other = replace(read_out((30, 27, 24)), embedded_case=read_out((30, 27, 20)).embedded_case)
    assert (
        broken(other)[SHAPE]
        == "(1, 2, 20, 18, 16) gives (1, 2, 30, 27, 24), not (1, 2, 30, 27, 20)"
    )
