"""Layers: found by their names, with the features and gradients of any output and any layout."""

import pytest
import torch
from torch import nn

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.methods.gradcam import InstanceGradCamPlusPlus, grad_cam
from segxai.methods.layer_layout import LayerLayout, find_layout
from segxai.methods.layers import find_layer, layout_of
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of, net2d

# Random networks have activations that sum below 0; the warning has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*a denominator of 0 or below")


def test_a_misspelt_layer_names_the_nearest():
    with pytest.raises(SegxaiError, match="'frist'.* 'first'"):
        find_layer(net2d(), "frist")


class LastBlock(nn.Module):
    """Mixes channels with them last, as Swin blocks do; (batch, *grid, channel) in and out."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x):
        return x + self.mix(self.norm(x)).relu()


class Turned(nn.Module):
    """A convolutional stem, a block in another layout, and a head; `first` is the same, turned."""

    def __init__(self, rank=2, channels=12, fixed=None):
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.stem = convolution(2, channels, 2, stride=2)
        self.block = LastBlock(channels)
        self.first = nn.Identity()
        self.head = convolution(channels, 3, 1)
        self.fixed = fixed

    def forward(self, x):
        if self.fixed not in (None, tuple(x.shape[2:])):
            raise ValueError("takes one size only")
        return self.head(self.first(self.turned(self.stem(x))))

    def turned(self, features):
        return self.block(features.movedim(1, -1)).movedim(-1, 1)


class Tokens(Turned):
    """The same with tokens, and perhaps some at the start that lie nowhere."""

    def __init__(self, rank=2, channels=12, fixed=None, leading=0):
        super().__init__(rank, channels, fixed)
        self.leading = leading

    def turned(self, features):
        tokens = features.flatten(2).transpose(1, 2)
        extra = tokens[:, : self.leading] ** 2
        mixed = self.block(torch.cat([extra, tokens], dim=1))[:, self.leading :]
        return mixed.transpose(1, 2).reshape(features.shape)


class Several(Turned):
    """A block that returns a tuple: what the head uses is neither first nor alone."""

    def __init__(self):
        super().__init__()
        self.block = Returning(self.block, lambda y: ({"gate": y.mean(), "none": None}, [y]))

    def turned(self, features):
        return self.block(features.movedim(1, -1))[1][0].movedim(-1, 1)


class Returning(nn.Module):
    def __init__(self, inner, packed):
        super().__init__()
        self.inner, self.packed = inner, packed

    def forward(self, x):
        return self.packed(self.inner(x))


def heat(network, layer, image, instance, **more):
    predictor = Predictor(network, whole_image(image.shape[2:]))
    found = find_layer(network, layer)
    return InstanceGradCamPlusPlus(predictor, found, **more).attribute(image, instance=instance)


NETWORKS = {
    "channels last": (lambda: Turned(), (16, 12), "channels_last"),
    "channels last, 1D": (lambda: Turned(rank=1), (20,), "channels_last"),
    "channels last, 3D": (lambda: Turned(rank=3), (8, 6, 10), "channels_last"),
    # As many maps as voxels along an axis: only another size can tell.
    "channels last, cube": (lambda: Turned(channels=8), (16, 16), "channels_last"),
    "channels last, one size": (
        lambda: Turned(channels=13, fixed=(16, 12)), (16, 12), "channels_last"
    ),
    # Both 8 x 6 and 6 x 4 of 16 x 12 are whole strides; those of the right one are equal.
    "channels last, one size, a stride": (
        lambda: Turned(channels=4, fixed=(16, 12)), (16, 12), "channels_last"
    ),
    "tokens": (lambda: Tokens(), (16, 12), "tokens:8,6"),
    "tokens, 3D": (lambda: Tokens(rank=3), (8, 6, 10), "tokens:4,3,5"),
    "tokens, one size": (lambda: Tokens(fixed=(16, 16), channels=13), (16, 16), "tokens:8,8"),
    "a tuple": (Several, (16, 12), "channels_last"),
}  # fmt: skip


@pytest.mark.parametrize("case", NETWORKS)
def test_a_layer_of_another_layout_has_the_heat_map_of_the_turned_layer(case):
    make, shape, wanted = NETWORKS[case]
    network, image = literal.seeded(make()), image_of((2, *shape))
    instance = block(shape, (4,) * len(shape), (2,) * len(shape))
    predictor = Predictor(network, whole_image(shape))
    assert str(layout_of(predictor, image, "block")) == wanted
    assert str(layout_of(predictor, image, "first")) == "channels_first"
    turned = heat(network, "first", image, instance)
    assert turned.max() > 0
    assert literal.worst(heat(network, "block", image, instance), turned) < 1e-5


def test_leading_tokens_are_left_out_and_it_is_said():
    network, image = literal.seeded(Tokens(leading=1)), image_of((2, 16, 16))
    instance = block((16, 16), (4, 4), (3, 3))
    turned = heat(network, "first", image, instance)
    with pytest.warns(SegxaiWarning, match="returns 65 tokens: the first 1 are taken for a class"):
        found = heat(network, "block", image, instance)
    assert literal.worst(found, turned) < 1e-5


def test_the_users_layout_is_taken_where_shapes_cannot_tell():
    network, image = literal.seeded(Turned(channels=8, fixed=(16, 16))), image_of((2, 16, 16))
    instance = block((16, 16), (4, 4), (3, 3))
    with pytest.raises(
        SegxaiError,
        match=r"layer 'block': .*\(1, 8, 8, 8\).* could be channels_first or channels_last; say "
        "which with layer_layout=channels_last",
    ):
        heat(network, "block", image, instance)
    turned = heat(network, "first", image, instance, layout="channels_first")
    found = heat(network, "block", image, instance, layout="channels_last")
    assert literal.worst(found, turned) < 1e-5


def test_the_users_grid_of_tokens_is_taken_where_patches_are_no_squares():
    class Wide(Tokens):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(2, 12, (2, 4), stride=(2, 4))

        def forward(self, x):
            return nn.functional.interpolate(super().forward(x), x.shape[2:])

    network, image = literal.seeded(Wide()), image_of((2, 16, 16))
    instance = block((16, 16), (4, 4), (3, 3))
    with pytest.raises(SegxaiError, match="32 tokens of a window of 16 x 16 could be .*tokens:N,N"):
        heat(network, "block", image, instance)
    turned = heat(network, "first", image, instance)
    found = heat(network, "block", image, instance, layout="tokens:8,4")
    assert literal.worst(found, turned) < 1e-5


@pytest.mark.parametrize(
    ("layout", "error"),
    [
        ("channels-last", "unknown layer layout 'channels-last'.*did you mean 'channels_last'"),
        ("tokens:8,x", "layer_layout=tokens:8,x: give channels_first"),
        ("channels_last:8", "layer_layout=channels_last:8: give channels_first"),
        ("tokens", "is not tokens"),
        ("tokens:8,6", "is not tokens"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout, error):
    network, image = literal.seeded(Turned()), image_of((2, 16, 12))
    predictor = Predictor(network, whole_image((16, 12)))
    with pytest.raises(SegxaiError, match=error):
        layout_of(predictor, image, "block", layout)


def test_a_grid_of_other_tokens_is_refused():
    network, image = literal.seeded(Tokens()), image_of((2, 16, 12))
    with pytest.raises(SegxaiError, match="has no tokens of 7 x 7"):
        layout_of(Predictor(network, whole_image((16, 12))), image, "block", "tokens:7,7")


class Odd(nn.Module):
    """Layers that no CAM method can use, beside two that it can."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.pooled = Returning(nn.Identity(), lambda y: y.mean(dim=(2, 3)))
        self.windows = Returning(nn.Identity(), lambda y: y.reshape(4, 6, -1))
        self.both = Returning(nn.Identity(), lambda y: (y, 2 * y))
        self.aside = nn.Conv2d(6, 3, 1)
        self.never = nn.ReLU()

    def forward(self, x):
        y = self.stem(x)
        one, two = self.both(y)
        self.aside(y)
        more = self.windows(y).reshape(y.shape) * self.pooled(y)[..., None, None]
        return self.head(one + two + more)


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        ("pooled", r"'pooled': an output of shape \(1, 6\).* does not have the axes of an image"),
        ("windows", r"'windows': an output of shape \(4, 6, 48\).* does not have the axes"),
        ("both", r"'both' returns 2 tensors that the logits depend on, of shapes .*name the layer"),
        ("aside", "the logits do not depend on layer 'aside'"),
        ("never", "layer 'never' does not run"),
    ],
)
def test_a_layer_that_cannot_be_used_is_refused(layer, error):
    network, image = literal.seeded(Odd()), image_of((2, 16, 12))
    with pytest.raises(SegxaiError, match=error):
        heat(network, layer, image, block((16, 12), (4, 4), (3, 3)))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_of_another_network_is_refused():
    method = InstanceGradCamPlusPlus(net2d(), nn.Conv2d(1, 1, 1))
    with pytest.raises(SegxaiError, match="the layer, a Conv2d, is not one of the network's"):
        method.attribute(image_of((3, 12, 10)), instance=block((12, 10), (4, 4), (2, 2)))


def test_a_network_without_layers_is_refused_once():
    class Bare(nn.Module):
        def forward(self, x):
            return x

    predictor = Predictor(Bare(), whole_image((8, 8)))
    with pytest.raises(SegxaiError, match="this network shows none: a program .* hides them"):
        layout_of(predictor, image_of((2, 8, 8)), "any")


def test_windows_share_the_layout_of_a_layer():
    network, shape = literal.seeded(Turned()), (24, 16)
    layout = sliding_window(shape, (16, 16), 0.5)
    image, instance = image_of((2, *shape)), block(shape, (9, 5), (4, 4))
    maps = [
        InstanceGradCamPlusPlus(Predictor(network, layout), layer).attribute(image, instance)
        for layer in (network.block, network.first)
    ]
    assert maps[1].max() > 0
    assert literal.worst(*maps) < 1e-5


def test_a_network_of_slices_has_layers_of_two_axes():
    class Slices(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, window):
            return self.network(window[..., 0])[..., None]

    network, image = literal.seeded(Turned()), image_of((2, 16, 12))
    flat = heat(network, "first", image, block((16, 12), (4, 4), (3, 3)))
    for layer in ("network.first", "network.block"):
        found = heat(
            Slices(network), layer, image[..., None], block((16, 12, 1), (4, 4, 0), (3, 3, 1))
        )
        assert literal.worst(found[..., 0], flat) < 1e-5


def test_the_layout_is_a_fact_about_the_map():
    network, image = literal.seeded(Turned()), image_of((2, 16, 12))
    predictor, asked = Predictor(network, whole_image((16, 12))), Asked(layer="block")
    found = grad_cam(predictor, image, block((16, 12), (4, 4), (2, 2)), *asked)
    assert found.facts["layer_layout"] == "channels_last"


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_convolution_has_its_channels_first_even_where_shapes_do_not_tell(axes):
    layer = getattr(nn, f"Conv{axes}d")(8, 8, 1)
    window = (8,) * axes
    assert find_layout(layer, (1, 8, *window), window, lambda: None) == LayerLayout(
        "channels_first"
    )
