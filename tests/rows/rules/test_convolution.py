"""Windowed rows are the dense rows: every rule alone, over random shapes, and a whole network."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from segxai.geometry import Box
from segxai.rows.cotangent import CannotCarryError, Cotangent
from tests import literal
from tests.networks import image_of, net2d, small_unet
from tests.rows.rules.boxes import (
    agree,
    box_by,
    compare,
    examples,
    fractions,
    random_cotangent,
    whole,
)


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


@examples(80)
@given(arguments=convolutions(), where=fractions)
def test_convolution(arguments, where):
    axes, kernel, options, grid = arguments
    layer = literal.seeded(PLAIN[axes](4, 6, kernel, **options)).requires_grad_(False)
    agree(*compare(layer, image_of((4, *grid)), box_by(where)))


@examples(80)
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
    nn.CELU(0.7),
    nn.SELU(),
    nn.Mish(),
    nn.Softplus(2.0),
    nn.Softsign(),
    nn.Hardsigmoid(),
    nn.Hardtanh(),
    nn.LogSigmoid(),
    nn.Hardshrink(),
    nn.Softshrink(),
    nn.Tanhshrink(),
    nn.Threshold(0.1, 0.2),
    nn.RReLU().eval(),
    nn.Dropout().eval(),
    nn.Softmax(dim=1),
    nn.Softmax(dim=-4),
    nn.LogSoftmax(dim=1),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
@examples(10)
@given(where=fractions)
def test_activation(layer, where):
    layer.requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)) * 3, box_by(where)))


@examples(10)
@given(where=fractions)
def test_gated_linear_units(where):
    agree(*compare(nn.GLU(dim=1), image_of((6, 5, 7)), box_by(where)))
    agree(*compare(nn.GLU(dim=2), image_of((3, 6, 7)), box_by(where)), on_box=False)


@pytest.mark.parametrize("affine", [True, False])
@examples(10)
@given(where=fractions)
def test_frozen_batch_norm(affine, where):
    layer = literal.seeded(nn.BatchNorm3d(3, affine=affine)).requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)), box_by(where)))


@examples(40)
@given(
    where=fractions,
    pads=st.lists(whole(0, 3), min_size=2, max_size=8).filter(lambda p: len(p) % 2 == 0),
)
def test_padding_with_zeros(where, pads):
    agree(*compare(lambda x: functional.pad(x.relu(), pads), image_of((2, 5, 4, 6)), box_by(where)))


@pytest.mark.parametrize(
    "function",
    [
        nn.InstanceNorm2d(3),
        nn.GroupNorm(1, 3),
        nn.LayerNorm(8),
        nn.Softmax(dim=2),
        nn.AdaptiveAvgPool2d(1),
        lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(),
        lambda x: (x.flatten(2) @ x.flatten(2).mT).softmax(-1).matmul(x.flatten(2)).view(x.shape),
        lambda x: torch.einsum("bchw,bdhw->bcd", x, x)[..., None],
    ],
    ids=["instance", "group", "layer", "softmax", "global", "excite", "attention", "einsum"],
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
