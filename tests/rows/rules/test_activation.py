"""Activations act on each voxel alone; a softmax and gates do so over the channels."""

import pytest
from hypothesis import given
from torch import nn

from tests.networks import image_of
from tests.rows.rules.boxes import agree, box_by, compare, examples, fractions

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
