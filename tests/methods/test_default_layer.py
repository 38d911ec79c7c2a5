"""The layer that is chosen for the user: by a trial on the image, and said."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import segxai
from segxai.errors import SegxaiError, SegxaiWarning
from segxai.methods.default_layer import _trial_voxels, choose_layer
from segxai.methods.gradcam import InstanceGradCamPlusPlus, grad_cam
from segxai.methods.layers import find_layer
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of

SHAPE = (16, 12)
pytestmark = pytest.mark.filterwarnings("ignore:the layer is")


class Net(nn.Module):
    """Two blocks and a head; what comes between can be replaced."""

    def __init__(self, middle, head=None, width=6):
        super().__init__()
        self.a, self.act = nn.Conv2d(2, width, 3, padding=1), nn.ReLU()
        self.middle = middle
        self.head = head or nn.Conv2d(width, 3, 1)

    def forward(self, x):
        return self.head(self.middle(self.act(self.a(x))))


def conv(width=6):
    return nn.Conv2d(width, width, 3, padding=1)


def target():
    return block(SHAPE, (4, 4), (6, 5))


def chosen(network, shape=SHAPE, explained=None, layout=None):
    predictor = Predictor(network, layout or whole_image(shape))
    wanted = target() if explained is None else explained
    return choose_layer(predictor, image_of((2, *shape)), wanted)


def trial(network, name):
    """The share of suspect coefficients, and whether there is heat, by the method itself."""
    method = InstanceGradCamPlusPlus(network, find_layer(network, name))
    heat = method.attribute(image_of((2, *SHAPE)), instance=target())
    return max(method.suspect), bool(heat.any())


def forced(network, **values):
    """The network with some of its tensors set to a number."""
    with torch.no_grad():
        for name, value in values.items():
            dict(network.named_parameters())[name.replace("__", ".")].fill_(value)
    return network


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_it_is_the_last_activation_and_not_the_convolution_before_it():
    network = literal.seeded(Net(nn.Sequential(conv(), nn.ReLU())))
    with torch.no_grad():
        network.middle[0].bias.fill_(-2.0)
    assert chosen(network) == "middle.1"
    assert trial(network, "middle.0")[0] > 0.1
    assert trial(network, "middle.1") == (0.0, True)


def test_a_block_that_ends_in_a_function_is_an_activation():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv(), nn.BatchNorm2d(6)

        def forward(self, x):
            return functional.relu(self.norm(self.conv(x)))

    assert chosen(literal.seeded(Net(Block()))) == "middle"


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_a_dead_layer_is_passed_over():
    """The last activation is dead: its heat map would be 0 without a word."""

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dead = conv(), nn.ReLU()

        def forward(self, x):
            return torch.cat([x, self.dead(self.conv(x) - 100)], dim=1)

    network = literal.seeded(Net(Skip(), nn.Conv2d(12, 3, 1)))
    assert chosen(network) == "middle"
    assert trial(network, "middle.dead") == (0.0, False)
    assert trial(network, "middle")[1]


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_a_branch_that_the_logits_do_not_use_is_passed_over():
    """As torchvision's auxiliary heads, which run last."""

    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.act, self.head = (
                nn.Conv2d(2, 6, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(6, 3, 1),
            )
            self.aux = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

        def forward(self, x):
            y = self.act(self.body(x))
            return {"logits": self.head(y), "aux": self.aux(y)}

    assert chosen(literal.seeded(Auxiliary())) == "act"


def test_an_activation_that_runs_twice_is_passed_over():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.relu = conv(), conv(), nn.ReLU()

        def forward(self, x):
            return self.relu(x + self.two(self.relu(self.one(x))))

    assert chosen(literal.seeded(Net(Twice()))) == "middle"


def test_a_residual_block_whose_activation_is_shared_and_in_place_is_an_activation():
    """As MONAI's, in which the activation runs twice, and LeakyReLU is negative somewhere."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = conv(), conv()
            self.norm1, self.norm2 = nn.InstanceNorm2d(6), nn.InstanceNorm2d(6)
            self.act = nn.LeakyReLU(0.01, inplace=True)

        def forward(self, x):
            out = self.norm2(self.two(self.act(self.norm1(self.one(x)))))
            out += x
            return self.act(out)

    assert chosen(literal.seeded(Net(Residual()))) == "middle"


def test_an_activation_in_place_is_not_taken_for_what_it_overwrites():
    network = literal.seeded(Net(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU(inplace=True))))
    assert chosen(network) == "middle.2"


def test_gates_and_pooled_features_are_passed_over():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), nn.ReLU())
            self.gate = nn.Sequential(nn.Conv2d(6, 1, 1), nn.Sigmoid())
            self.all = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Sigmoid())

        def forward(self, x):
            return x * self.gate(x) * self.all(x) * self.squeeze(x)

    # The product of what is nowhere negative is an activation.
    assert chosen(literal.seeded(Net(Gated()))) == "middle"


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_without_activations_it_is_the_last_layer_with_few_suspect_coefficients():
    network = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), conv(), nn.Conv2d(6, 3, 1))
    network = forced(literal.seeded(network), **{"1__bias": 1.0})
    assert trial(network, "1") == (0.0, True)
    assert chosen(network) == "1"
    with pytest.warns(SegxaiWarning, match=r"the layer is '1', the last layer before the logits"):
        chosen(network)


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_if_all_have_many_suspect_coefficients_it_is_the_one_with_the_fewest():
    network = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), conv(), nn.Conv2d(6, 3, 1))
    network = forced(literal.seeded(network), **{"0__bias": -5.0, "1__bias": -5.0})
    shares = {name: trial(network, name)[0] for name in ("0", "1")}
    assert min(shares.values()) > 0.1
    with pytest.warns(SegxaiWarning, match=r"the layer is '\d', of all layers .* the fewest"):
        assert chosen(network) == min(shares, key=shares.__getitem__)


def test_no_layer_with_heat_is_refused():
    with pytest.raises(SegxaiError, match="no layer of the network has a heat map"):
        chosen(nn.Sequential(nn.Conv2d(2, 3, 1)))


def test_token_and_channels_last_layers_are_tried_in_their_own_layout():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.act = nn.Linear(6, 24), nn.GELU()

        def forward(self, x):
            return self.act(self.mix(x.movedim(1, -1))).movedim(-1, 1)

    network = literal.seeded(Net(Last(), nn.Conv2d(24, 3, 1)))
    with torch.no_grad():
        network.middle.mix.bias.add_(1.0)
    assert chosen(network) == "middle.act"
    assert trial(network, "middle.act")[1]


@pytest.mark.filterwarnings("default:the layer is")
def test_it_is_said_and_kept():
    network, image, mask = (
        literal.seeded(Net(nn.Identity())),
        torch.randn(2, *SHAPE),
        target().mask(SHAPE),
    )
    with pytest.warns(
        SegxaiWarning, match=r"the layer is 'act', the last activation before .*layer"
    ):
        found = segxai.explain(network, image, mask, method="gradcam++")
    assert (found.attrs["layer"], found.attrs["layer_layout"]) == ("act", "channels_first")
    assert any("the layer is 'act'" in text for text in found.attrs["warnings"])


def test_a_layer_that_is_named_is_no_choice():
    network, image, mask = (
        literal.seeded(Net(nn.Identity())),
        torch.randn(2, *SHAPE),
        target().mask(SHAPE),
    )
    found = segxai.explain(network, image, mask, method="gradcam++", layer="act")
    assert found.attrs["warnings"] == []


# ------------------------------------------------------------------------------ what is explained


class Bright(nn.Module):
    """Class 1 where the first channel is above 2; a feature that is alive only where it is."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 1)
        self.act = nn.ReLU()
        self.late, self.late_act = nn.Conv2d(4, 4, 1), nn.ReLU()
        self.head = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            for one in self.parameters():
                one.zero_()
            self.first.weight[0, 0], self.late.weight[0, 0], self.head.weight[1, 0] = 1.0, 1.0, 1.0
            self.late.bias[0], self.head.bias[0] = -2.0, 1e-3

    def forward(self, x):
        return self.head(self.late_act(self.late(self.act(self.first(x)))))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_without_an_instance_a_window_with_the_class_is_tried(activation):
    """Elsewhere the last activation is dead, and another layer would be chosen."""
    shape, network = (32, 32), Bright()
    image = torch.zeros(1, 2, *shape)
    image[0, 0, 25:28, 2:5] = 5.0
    predictor = Predictor(network, sliding_window(shape, (8, 8), 0), activation=activation)
    assert choose_layer(predictor, image, 1) == "late_act"
    with pytest.raises(SegxaiError, match="no layer of the network has a heat map"):
        choose_layer(predictor, torch.zeros_like(image), 1)


def test_a_class_that_is_nowhere_is_tried_where_it_is_surest():
    network = literal.seeded(Net(nn.Identity()))
    forced(network, head__bias=0.0)
    with torch.no_grad():
        network.head.bias[1] = -50.0
    assert chosen(network, explained=1) == "act"


def test_surest_are_the_hundredth_part_with_the_largest_logits():
    class Rising(nn.Module):
        def forward(self, x):
            return torch.cat([x + 2e3, x], dim=1)

    image = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).view(1, 1, 20, 50)
    predictor = Predictor(Rising(), whole_image((20, 50)))
    _, voxels, index = _trial_voxels(predictor, image.float(), 1)
    assert index == 1
    assert sorted(image[0, 0][tuple(voxels.T)].tolist()) == list(range(990, 1000))


def test_the_window_that_holds_most_of_the_instance_is_tried():
    shape, network = (32, 32), Bright()
    image = torch.zeros(1, 2, *shape)
    image[0, 0, 25:28, 2:5] = 5.0
    predictor = Predictor(network, sliding_window(shape, (8, 8), 0))
    assert choose_layer(predictor, image, block(shape, (22, 2), (6, 3))) == "late_act"


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(SegxaiError, match="no class 7: the network has 3 classes, 0 to 2"):
        chosen(
            literal.seeded(Net(nn.Identity())),
            explained=block(SHAPE, (4, 4), (2, 2), class_index=7),
        )


# ------------------------------------------------------------------------- the model as it came


def test_a_model_in_training_mode_keeps_its_statistics():
    network = literal.seeded(Net(nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout())))
    network.train()
    before = {name: one.clone() for name, one in network.state_dict().items()}
    assert chosen(network) == "middle.2"
    settings = Asked()
    grad_cam(Predictor(network, whole_image(SHAPE)), image_of((2, *SHAPE)), target(), *settings)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in network.modules())
    assert all(one.requires_grad and one.grad is None for one in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_are_gone_after_a_failure():
    network = literal.seeded(Net(nn.Identity()))
    with pytest.raises(SegxaiError, match="fails on an input"):
        choose_layer(Predictor(network, whole_image(SHAPE)), image_of((3, *SHAPE)), target())
    assert not any(module._forward_hooks for module in network.modules())
