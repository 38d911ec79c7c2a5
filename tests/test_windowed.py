"""Windowed rows are the dense rows: every rule alone, over random shapes, and a whole network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from segxai.types import Box
from segxai.windowed import CannotCarryError, Cotangent
from tests import literal
from tests.networks import image_of, net2d, small_unet

TOLERANCE = 1e-5


def random_cotangent(shape, box, rows=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Cotangent(torch.randn(rows, shape[1], *box.size, generator=generator), box.start, shape)


def compare(function, image, box):
    """The rows that a function's backward pass makes of a cotangent on a box, and dense ones."""
    leaf = image.clone().requires_grad_()
    output = function(leaf)
    grad = random_cotangent(output.shape, box(output.shape[2:]))
    (found,) = torch.autograd.grad(output, leaf, grad, retain_graph=True)
    wanted = torch.stack(
        [torch.autograd.grad(output, leaf, row, retain_graph=True)[0] for row in grad.dense()]
    )
    return found, wanted


def agree(found, wanted, *, on_box=True):
    assert isinstance(found, Cotangent)
    assert found.shape == wanted.shape[1:]
    assert (found.start is not None) == on_box
    scale = float(wanted.abs().max()) or 1.0
    assert float((found.dense() - wanted).abs().max()) <= TOLERANCE * scale


def box_by(fractions):
    """A box on any grid, from fractions of its extent."""

    def make(grid):
        spans = []
        for size, (a, b) in zip(grid, fractions, strict=False):
            first = min(int(a * size), size - 1)
            spans.append((first, max(int(b * (size - first)), 1)))
        return Box(tuple(s for s, _ in spans), tuple(n for _, n in spans))

    return make


fractions = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3)
whole = st.integers


@st.composite
def convolutions(draw, transposed=False):
    """Constructor arguments of a convolution of 1 to 3 axes, and a grid for it."""
    axes = draw(whole(1, 3))
    groups = draw(st.sampled_from([1, 2]))
    each = lambda low, high: tuple(draw(whole(low, high)) for _ in range(axes))  # noqa: E731
    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw(whole(0, max(r, 1))) for r in reach)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        limits = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(draw(whole(0, limit)) for limit in limits)
        padding = options["padding"] = tuple(min(p, r) for p, r in zip(padding, reach, strict=True))
    grid = tuple(draw(whole(r + 2, r + 9)) for r in reach)
    return axes, kernel, options, grid


PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@settings(deadline=None, max_examples=80)
@given(arguments=convolutions(), where=fractions)
def test_convolution(arguments, where):
    axes, kernel, options, grid = arguments
    layer = literal.seeded(PLAIN[axes](4, 6, kernel, **options)).requires_grad_(False)
    agree(*compare(layer, image_of((4, *grid)), box_by(where)))


@settings(deadline=None, max_examples=80)
@given(arguments=convolutions(transposed=True), where=fractions)
def test_transposed_convolution(arguments, where):
    axes, kernel, options, grid = arguments
    layer = literal.seeded(TRANSPOSED[axes](4, 6, kernel, **options)).requires_grad_(False)
    agree(*compare(layer, image_of((4, *grid)), box_by(where)))


ACTIVATIONS = [
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.ELU(1.5),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Hardswish(),
    nn.ReLU6(),
    nn.PReLU(),
    nn.PReLU(3),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
@settings(deadline=None, max_examples=10)
@given(where=fractions)
def test_activation(layer, where):
    layer.requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)) * 3, box_by(where)))


@pytest.mark.parametrize("affine", [True, False])
@settings(deadline=None, max_examples=10)
@given(where=fractions)
def test_frozen_batch_norm(affine, where):
    layer = literal.seeded(nn.BatchNorm3d(3, affine=affine)).requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)), box_by(where)))


@settings(deadline=None, max_examples=30)
@given(where=fractions)
def test_concatenation_addition_and_crops(where):
    agree(
        *compare(
            lambda x: torch.cat([x, 2 * x.relu(), x.tanh()], dim=1)[:, 1:7],
            image_of((3, 6, 5)),
            box_by(where),
        ),
        on_box=False,
    )
    agree(
        *compare(
            lambda x: torch.cat([x.relu(), x.tanh()], dim=1), image_of((3, 6, 5)), box_by(where)
        )
    )
    agree(*compare(lambda x: x.relu() + x.tanh(), image_of((3, 6, 5)), box_by(where)))
    agree(*compare(lambda x: x.relu()[..., 1:4, 2:5], image_of((3, 6, 5)), box_by(where)))


@settings(deadline=None, max_examples=40)
@given(
    where=fractions,
    pads=st.lists(whole(0, 3), min_size=2, max_size=6).filter(lambda p: len(p) % 2 == 0),
)
def test_padding_with_zeros(where, pads):
    agree(*compare(lambda x: functional.pad(x.relu(), pads), image_of((2, 5, 4, 6)), box_by(where)))


@pytest.mark.parametrize(
    "function",
    [
        nn.InstanceNorm2d(3),
        nn.GroupNorm(1, 3),
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Softmax(dim=1),
        lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(),
        lambda x: x.flatten(2).transpose(1, 2).softmax(dim=1).transpose(1, 2).reshape(x.shape),
        lambda x: torch.einsum("bchw,bdhw->bcd", x, x)[..., None],
    ],
    ids=["instance", "group", "pool", "upsample", "softmax", "excite", "attention", "einsum"],
)
def test_anything_else_goes_on_densely_and_exactly(function):
    where = [(0.3, 0.4)] * 3
    agree(*compare(function, image_of((3, 6, 8)), box_by(where)), on_box=False)


def test_addition_with_broadcasting_is_left_to_the_dense_way():
    one = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    other = random_cotangent((1, 1, 4, 4), Box((0, 1), (2, 2)))
    assert torch.equal((one + other).dense(), one.dense() + other.dense())


def test_an_operation_in_place_is_refused_rather_than_done_wrong():
    grad = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    with pytest.raises(CannotCarryError, match="writes in place"):
        grad.mul_(2)


class Mixed(nn.Module):
    """Windowed and dense operations in turn."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4)
        self.second = nn.Conv2d(8, 3, 3, padding=2, dilation=2)

    def forward(self, x):
        fine = functional.silu(self.first(x))
        coarse = functional.interpolate(
            functional.max_pool2d(self.norm(fine), 2), scale_factor=2, mode="nearest"
        )
        return self.second(torch.cat([fine, coarse], dim=1))


@pytest.mark.parametrize(
    ("network", "shape", "on_box"),
    [
        (small_unet, (2, 32, 24, 40), True),
        (net2d, (3, 24, 28), True),
        (lambda: literal.seeded(Mixed()), (2, 12, 16), False),
    ],
)
def test_whole_networks(network, shape, on_box):
    model = network().requires_grad_(False)
    where = [(0.4, 0.2)] * 3
    agree(*compare(model, image_of(shape), box_by(where)), on_box=on_box)


def test_a_row_of_a_unet_fills_its_receptive_field_and_no_more():
    """The box comes from the operations: it holds every non-zero value, and not the whole grid."""
    model, shape = small_unet().requires_grad_(False), (2, 48, 48, 48)
    leaf = image_of(shape).requires_grad_()
    logits = model(leaf)
    one = torch.zeros(1, 2, 1, 1, 1)
    one[0, 1] = 1
    (row,) = torch.autograd.grad(logits, leaf, Cotangent(one, (24, 25, 23), logits.shape))
    used = np.argwhere(row.dense()[0, 0].abs().sum(dim=0).numpy() > 0)
    assert max(row.box.size) < 24
    assert all(row.box.contains(used))
