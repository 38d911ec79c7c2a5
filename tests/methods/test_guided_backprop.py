"""Guided backpropagation: Captum's at modules, and the same at ReLUs that are functions."""

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import segxai
from segxai.errors import SegxaiWarning
from segxai.methods.gradient import InstanceGradient
from segxai.rows.instance_score import InstanceScore
from tests import literal
from tests.networks import block, image_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting backward hooks", "ignore:Input Tensor 0 did not"
)


class Rectified(nn.Module):
    """Two activations between three convolutions, each of any kind."""

    def __init__(self, first, second):
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 2, 3, padding=1)
        self.first, self.second = first, second

    def forward(self, x):
        return self.c(self.second(self.b(self.first(self.a(x)))))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def image():
    return image_of((1, 8, 8))


def score_of(first, second):
    return InstanceScore(literal.seeded(Rectified(first, second)), block((8, 8), (3, 3), (2, 2)))


def by_hand(score):
    """The gradient, layer after layer, with the negative part cut off at both activations."""
    model, x = score.model, image()
    before = model.a(x).detach()
    middle = model.b(before.relu()).detach()
    leaf = middle.relu().requires_grad_()
    logits = model.c(leaf)
    mean = logits[0, 1][tuple(score.instance.voxels.T)].mean()
    (g,) = torch.autograd.grad(mean, leaf)
    g = g.clamp(min=0) * (middle > 0)
    g = functional.conv_transpose2d(g, model.b.weight, padding=1)
    g = g.clamp(min=0) * (before > 0)
    return functional.conv_transpose2d(g, model.a.weight, padding=1).detach()


def test_guided_backpropagation_is_captums_where_all_are_modules():
    score = score_of(nn.ReLU(), nn.ReLU())
    ours = segxai.GuidedBackprop(score).attribute(image())
    theirs = captum.attr.GuidedBackprop(score).attribute(image())
    assert torch.equal(ours, theirs)
    plain = InstanceGradient(score.model, "mean").attribute(image(), score.instance)
    assert literal.worst(ours, plain) > 0.1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.ReLU(), Function(functional.relu)),
        (Function(torch.relu), nn.ReLU(inplace=True)),
        (Function(torch.relu_), Function(lambda x: x.relu())),
        (Function(lambda x: checkpoint(torch.relu, x, use_reentrant=False)), nn.ReLU()),
    ],
)
def test_relus_that_are_functions_are_guided_like_modules(first, second):
    found = segxai.GuidedBackprop(score_of(first, second)).attribute(image())
    assert literal.worst(found, by_hand(score_of(first, second))) < 1e-5


def test_a_relu_in_place_behind_an_instance_norm_is_guided():
    """Torch returns the norm as a view, in whose graph the ReLU would not show."""
    norm = nn.InstanceNorm2d(4)
    ours, apart = (
        score_of(nn.Sequential(norm, nn.ReLU(inplace=inplace)), nn.ReLU(inplace=inplace))
        for inplace in (True, False)
    )
    found = segxai.GuidedBackprop(ours).attribute(image())
    assert torch.equal(found, captum.attr.GuidedBackprop(apart).attribute(image()))


def test_what_is_written_into_a_part_of_a_tensor_is_out_of_reach():
    def half(x):
        y = x.clone()
        y[:, :2].relu_()
        return y

    method = segxai.GuidedBackprop(score_of(nn.ReLU(), Function(half)))
    with pytest.warns(SegxaiWarning, match="at whatever is written into a part of a tensor"):
        method.attribute(image())


def test_a_relu_that_runs_twice_is_guided_twice():
    relu = nn.ReLU()
    found = segxai.GuidedBackprop(score_of(relu, relu)).attribute(image())
    assert literal.worst(found, by_hand(score_of(relu, relu))) < 1e-5


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (Function(functional.gelu), "GELU"),
        (nn.LeakyReLU(0.1), "LeakyReLU"),
        (nn.LeakyReLU(0.1, inplace=True), "LeakyReLU"),
        (nn.ELU(inplace=True), "ELU or SELU"),
        (Function(lambda x: x.clamp(min=0)), "clamp"),
    ],
)
def test_an_activation_that_is_no_relu_is_named(other, name):
    method = segxai.GuidedBackprop(score_of(nn.ReLU(), other))
    with pytest.warns(SegxaiWarning, match=f"plain gradient at {name}, which this network ran"):
        method.attribute(image())


def test_a_relu_that_is_registered_but_does_not_run_does_not_count():
    score = score_of(nn.PReLU(), nn.PReLU())
    score.model.unused = nn.ReLU()
    with pytest.warns(SegxaiWarning, match="ran no ReLU but PReLU: .* plain gradient here"):
        found = segxai.GuidedBackprop(score).attribute(image())
    plain = InstanceGradient(score.model, "mean").attribute(image(), score.instance)
    assert literal.worst(found, plain) < 1e-5


def test_a_relu_in_a_compiled_layer_is_out_of_reach():
    hidden = torch.compile(nn.ReLU(), backend="aot_eager")
    method = segxai.GuidedBackprop(score_of(hidden, nn.ReLU()))
    with pytest.warns(SegxaiWarning, match="plain gradient at whatever torch.compile holds"):
        method.attribute(image())


def test_a_batch_of_inputs_and_a_target_go_to_captum():
    model = literal.seeded(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    )
    batch = torch.cat([image(), -image()])
    ours = segxai.GuidedBackprop(model).attribute(batch, target=2)
    assert torch.equal(ours, captum.attr.GuidedBackprop(model).attribute(batch, target=2))
