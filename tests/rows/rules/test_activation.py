"""Activations act on each voxel alone; a softmax and gates do so over the channels."""

import pytest
import torch
from hypothesis import given
from torch import nn

from segxai.rows.engines import make_engine
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests import literal
from tests.networks import block, image_of
from tests.rows.rules.boxes import MIDDLE, agree, box_by, compare, examples, fractions
from tests.rows.whole_grid import in_order, rows_on_grid

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


MOST = [(0.2, 0.7)] * 3
# Autograd chooses 0 where these are flat; the others multiply by their slope.
CHOOSING = [
    nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardshrink(),
    nn.Softshrink(), nn.Threshold(0.1, 0.2),
]  # fmt: skip


@pytest.mark.parametrize("layer", CHOOSING, ids=str)
def test_infinite_rows_are_0_where_an_activation_is_flat(layer):
    image = image_of((3, 6, 5, 7)) * 3
    leaf = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(layer(leaf).sum(), leaf)
    assert (slope == 0).any()

    def divided(x):  # by 0 where the activation is flat: infinite rows come from above
        return layer(x) / (slope != 0)

    found, wanted = compare(divided, image, box_by(MOST))
    assert wanted.isfinite().all()
    agree(found, wanted)


def test_infinite_rows_stay_nan_where_autograd_multiplies():
    image = image_of((3, 6, 5, 7))
    found, wanted = compare(lambda x: nn.LeakyReLU(0.0)(x) / (x > 0), image, box_by(MOST))
    torch.testing.assert_close(found.rows, wanted[:, 0][found.box.index], equal_nan=True)
    assert wanted.isnan().any()


def test_rows_through_a_square_root_after_a_relu_are_those_of_autograd():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    first, last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
    network = literal.seeded(nn.Sequential(first, nn.ReLU(), Root(), last))
    predictor, image = Predictor(network, whole_image((14, 12))), image_of((2, 14, 12))
    voxels = block((14, 12), (5, 4), (4, 4)).voxels
    wanted = in_order(literal.rows(predictor, image, voxels))
    assert wanted.isfinite().all()
    assert (network[0](image) < 0).any()
    found = in_order(rows_on_grid(predictor, image, voxels, make_engine("windowed", 4)))
    assert literal.worst(found, wanted) < 1e-5


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_slopes_at_zero_are_those_of_autograd(layer):
    """Networks are 0 on whole regions, such as the background of an image."""
    layer.requires_grad_(False)
    agree(*compare(layer, torch.zeros(1, 3, 6, 5, 7), box_by(MIDDLE)))
