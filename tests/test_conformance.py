"""The conformance kit: an honest adapter passes, and every lie is caught by its own message."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segxai import Adapter, Case, Grid
from segxai.errors import SegxaiError
from segxai.plugins import load_adapter
from segxai.testing import check_adapter
from tests.commandline import segxai, use_toys
from tests.toy.segxai_toy import TOY, Toy, bare_case, picture

LOADS = "the network loads"
SAME_WEIGHTS = "the same weights whenever it is loaded"
SHAPE = "one finite logit for each class and voxel"
LOGITS = "logits, not probabilities"
TWICE = "the same twice in evaluation mode"
GRADIENTS = "gradients reach every channel"
LEFT = "the network is left as it came"
LAYER = "the default layer exists"
RECORD = "the record makes sense"
CASE = "the embedded case fits the adapter"
WHOLE = "the window's 96x96x96 voxels"
ROWS = "rows can be computed"
PROMISES = [RECORD, CASE, LOADS, SAME_WEIGHTS, SHAPE, LOGITS, TWICE, GRADIENTS, LEFT, LAYER, ROWS]


def findings(adapter):
    return {finding.what: finding for finding in check_adapter(adapter)}


def broken(adapter):
    """What is wrong, by promise."""
    return {
        what: finding.detail for what, finding in findings(adapter).items() if not finding.holds
    }


def with_network(change):
    """The toy with a network whose forward pass is changed."""

    class Changed(Toy):
        def forward(self, image):
            return change(self, super().forward, image)

    return replace(TOY, load_network=lambda checkpoint: Changed())


# --------------------------------------------------------------------------------- honest adapters


def test_an_honest_adapter_keeps_every_promise():
    found = findings(TOY)
    assert list(found) == PROMISES
    engine = found.pop(ROWS)
    assert engine.holds
    assert engine.detail.startswith("windowed; a row keeps to ")
    assert all(finding.holds and not finding.detail for finding in found.values())


def test_the_adapter_comes_back_as_it_was():
    network = Toy().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert broken(replace(TOY, load_network=lambda checkpoint: network)) == {}
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("axes", [2, 3])
def test_an_adapter_without_a_case_is_tried_on_noise(axes):
    adapter = replace(
        TOY,
        embedded_case=Adapter.embedded_case,
        load_network=lambda checkpoint: Toy(axes=axes),
    )
    found = findings(adapter)
    assert all(finding.holds for finding in found.values()), found
    assert found[CASE].detail == "skipped, there is none"


def test_a_window_larger_than_the_case_is_padded():
    sizes = []

    def look(network, forward, image):
        sizes.append(tuple(image.shape[2:]))
        return forward(image)

    assert broken(replace(with_network(look), window=(24, 16, 16))) == {}
    assert set(sizes) == {(24, 16, 16)}


def test_the_command_prints_the_list(monkeypatch):
    use_toys(monkeypatch)
    done = segxai("check", "toy")
    assert (done.status, done.err) == (0, "")
    *promises, engine = done.out.splitlines()
    assert promises == [f"ok   {promise}" for promise in PROMISES[:-1]]
    assert engine.startswith(f"ok   {ROWS}: windowed; a row keeps to ")
    done = segxai("check", "toy_nan")
    assert f"FAIL {SHAPE}: logits are not finite" in done.out.splitlines()
    assert "adapter 'toy_nan' breaks" in done.error
    assert "unknown adapter 'tyo'" in segxai("check", "tyo").error


def test_the_adapter_of_this_project_passes():
    done = segxai("check", "ms_lesion")
    assert done.status == 0, done.out
    summary, *promises, engine = done.out.splitlines()
    assert summary == f"ms_lesion: {load_adapter('ms_lesion').summary}"
    assert promises == [f"ok   {promise}" for promise in PROMISES[:-1]]
    assert (
        engine == f"ok   {ROWS}: windowed; a row keeps to 31x31x31 of the window's 96x96x96 voxels"
    )


# ------------------------------------------------------------------------------------------- lies


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
    "coarser grid": (
        lambda network, forward, image: nn.functional.avg_pool3d(forward(image), 2),
        {SHAPE: "(1, 2, 20, 18, 16) gives (1, 2, 10, 9, 8), not (1, 2, 20, 18, 16)"},
    ),
    "another number of classes": (
        lambda network, forward, image: forward(image)[:, :1],
        {SHAPE: "(1, 2, 20, 18, 16) gives (1, 1, 20, 18, 16), not (1, 2, 20, 18, 16)"},
    ),
    "a list of outputs": (
        lambda network, forward, image: [forward(image)],
        {SHAPE: "the network returns a list; return one tensor of logits"},
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
    "counting passes": (count, {LEFT: "its tensor count"}),
}


@pytest.mark.parametrize(("change", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_lies_is_caught(change, expected):
    wrong = broken(with_network(change))
    for promise, words in expected.items():
        assert promise in wrong, wrong
        assert words in wrong[promise]


def test_random_weights_are_caught():
    adapter = replace(
        TOY, load_network=lambda checkpoint: nn.Conv3d(2, 2, 3, padding=1), layer=None
    )
    assert broken(adapter) == {SAME_WEIGHTS: "loaded twice, weight differs: the weights are random"}


def raise_error(*arguments):
    raise KeyError("weights")


def case_of(**changes):
    return replace(TOY, embedded_case=lambda: replace(bare_case(picture()), **changes))


def without(**changes):
    return replace(TOY, **changes)


RECORDS = {
    "unknown target": (without(target_class="bal"), RECORD, "unknown class 'bal'; known: ball"),
    "threshold": (without(threshold=2.0), RECORD, "threshold 2 is not a probability"),
    "channels": (without(channels=("a", "a")), RECORD, "channels must be distinct names"),
    "no channels": (without(channels=()), RECORD, "channels must be distinct names"),
    "classes": (
        without(classes=("ball", "ball")),
        RECORD,
        "classes must be distinct names, found ('ball', 'ball')",
    ),
    "layer": (without(layer="featurse"), LAYER, "unknown layer 'featurse'; known: active"),
    "network": (without(load_network=raise_error), LOADS, "KeyError: 'weights'"),
    "case": (without(embedded_case=raise_error), CASE, "KeyError: 'weights'"),
    "mended case": (
        without(embedded_case=lambda: Adapter.embedded_case()),
        CASE,
        "this plugin has no embedded case",
    ),
    "window": (without(window=(8, 8)), CASE, "a window of 2 axes (8, 8) does not fit"),
    "image": (
        case_of(image=picture()[:1]),
        CASE,
        "image (1, 20, 18, 16), 2 channels, grid (20, 18, 16)",
    ),
    "names": (case_of(channels=("other", "bright")), CASE, "the adapter's are ('bright', 'other')"),
    "NaN": (case_of(image=picture() * np.float32(np.nan)), CASE, "NaN or infinite values"),
    "float64": (case_of(image=picture().astype(float)), CASE, "the image is float64, not float32"),
    "foreground": (
        case_of(foreground=np.zeros((20, 18, 16), bool)),
        CASE,
        "the foreground is empty",
    ),
    "affine": (
        case_of(grid=Grid((20, 18, 16), np.diag([1.0, 1, 0, 1]))),
        CASE,
        "for 3 axes, or a singular one",
    ),
}


@pytest.mark.parametrize(("adapter", "promise", "words"), RECORDS.values(), ids=RECORDS)
def test_a_record_that_does_not_fit_is_caught(adapter, promise, words):
    wrong = broken(adapter)
    assert next(iter(wrong)) == promise
    assert words in wrong[promise]


def test_nothing_is_looked_at_after_a_failure_to_load():
    assert list(findings(without(load_network=raise_error)))[-1] == LOADS
    assert list(findings(without(embedded_case=raise_error)))[-1] == CASE


def test_an_error_of_the_user_is_told_in_its_own_words():
    def missing(checkpoint):
        raise SegxaiError("no weights here; download them")

    assert broken(without(load_network=missing)) == {LOADS: "no weights here; download them"}


def test_a_case_is_a_case():
    assert isinstance(TOY.embedded_case(), Case)
