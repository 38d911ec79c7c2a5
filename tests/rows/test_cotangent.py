"""Cotangents without a rule for what they meet: dense and exact, or refused."""

import pytest
import torch
from torch import nn

from segxai.geometry import Box
from segxai.rows.cotangent import CannotCarryError, on_box_of
from tests.networks import image_of
from tests.rows.rules.boxes import agree, box_by, compare, random_cotangent


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


def test_an_operation_in_place_is_refused_rather_than_done_wrong():
    grad = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    with pytest.raises(CannotCarryError, match="writes in place"):
        grad.mul_(2)


def test_what_has_no_axis_of_channels_is_cropped_along_those_of_space():
    grad = random_cotangent((1, 2, 6, 8), Box((1, 2), (3, 4)))
    plane = torch.arange(48.0).view(6, 8)
    assert torch.equal(on_box_of(grad, plane), plane[1:4, 2:6])
    assert torch.equal(on_box_of(grad, plane[:1]), plane[:1, 2:6])  # broadcast along the first
