"""Sums, products and choices keep rows on their box; what spreads over space does not."""

import pytest
import torch
from hypothesis import given

from segxai.geometry import Box
from tests.networks import image_of
from tests.rows.rules.boxes import (
    MIDDLE,
    agree,
    box_by,
    compare,
    examples,
    fractions,
    random_cotangent,
)

OTHER = image_of((3, 6, 5), seed=1)

FUNCTIONS = {
    "two paths": lambda x: x.relu() + x.tanh(),
    "difference": lambda x: x.relu() - x.tanh(),
    "steps to the neighbours": lambda x: x[:, :, 2:] - x[:, :, :-2],
    "one minus": lambda x: 1 - x,
    "weighted sum": lambda x: torch.add(x.relu(), x, alpha=2),
    "a constant": lambda x: x * 2.5 + 1,
    "another image": lambda x: OTHER * x,
    "a gate": lambda x: x * x[:, :1].sigmoid(),
    "its own gate": lambda x: x * x.sigmoid(),
    "channel weights": lambda x: x * OTHER[0, :, :1, :1],
    "a profile": lambda x: x * OTHER[:, :1, :, :1] * OTHER[0, 0, 0],
    "quotient": lambda x: x / (1 + x.exp()),
    "quotient by a number": lambda x: x / 3,
    "powers": lambda x: x**2 + x.abs() + (1 + x.abs()).sqrt() + (2 + x.abs()).rsqrt(),
    "clamped": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0),
    "chosen": lambda x: torch.where(x > 0, x, 2 * x) + torch.where(OTHER > 0, 0.0, x),
    "chosen by one channel": lambda x: torch.where(OTHER[:, :1] > 0, x, 0.0),
    "masked": lambda x: x.masked_fill(OTHER[:, :1] > 0, 0.0),
    "sum over channels": lambda x: x.sum(dim=1, keepdim=True),
    "mean over channels": lambda x: x.mean(dim=1, keepdim=True) + x,
    "one for all channels": lambda x: x[:, 1:2].expand(1, 3, 6, 5),
    "normalised channels": lambda x: (
        (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-3)
    ),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@examples(10)
@given(where=fractions)
def test_each_voxel_for_itself(function, where):
    agree(*compare(function, image_of((3, 6, 5)), box_by(where)))


def test_a_sum_without_its_axis():
    agree(*compare(lambda x: x.sum(dim=1)[:, None], image_of((3, 6, 5)), box_by(MIDDLE)))


def test_a_weight_for_each_line_gathers_along_the_line():
    weight = image_of((3, 6, 1), seed=2)
    agree(*compare(lambda x: weight.sigmoid() * x, image_of((3, 6, 5)), box_by(MIDDLE)))
    agree(*compare(lambda x: x * x.mean(2, keepdim=True), image_of((3, 6, 5)), box_by(MIDDLE)))


def test_what_spreads_over_space_has_no_box():
    spread = lambda x: x + x.mean(dim=(2, 3), keepdim=True)  # noqa: E731
    agree(*compare(spread, image_of((3, 6, 5)), box_by(MIDDLE)), on_box=False)
    peak = lambda x: x.amax(dim=(2, 3), keepdim=True)  # noqa: E731
    agree(*compare(peak, image_of((3, 6, 5)), box_by(MIDDLE)), on_box=False)
    agree(*compare(lambda x: x * OTHER, image_of((3, 1, 1)), box_by(MIDDLE)))
    agree(*compare(lambda x: x[:, :, :1, :1] * OTHER, image_of((3, 6, 5)), box_by(MIDDLE)))


def test_factors_that_add_axes_are_left_to_the_dense_way():
    weight = torch.randn(1, 1, 3, 6, 5)
    cube = lambda x: (x * weight)[0]  # noqa: E731
    agree(*compare(cube, image_of((3, 6, 5)), box_by(MIDDLE)), on_box=False)


def test_addition_with_broadcasting_is_left_to_the_dense_way():
    one = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    other = random_cotangent((1, 1, 4, 4), Box((0, 1), (2, 2)))
    assert torch.equal((one + other).dense(), one.dense() + other.dense())


def test_a_choice_of_something_else_than_zero_is_left_to_the_dense_way():
    grad = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    mask = image_of((2, 4, 4)) > 0
    chosen = torch.where(mask, grad, torch.tensor(2.0))
    assert chosen.start is None
    assert torch.equal(chosen.dense(), torch.where(mask, grad.dense(), torch.tensor(2.0)))
    filled = grad.masked_fill(mask, 2.0)
    assert torch.equal(filled.dense(), grad.dense().masked_fill(mask, 2.0))


def test_a_sum_with_a_factor_is_left_to_the_dense_way():
    one = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    other = random_cotangent((1, 2, 4, 4), Box((0, 1), (2, 2)), seed=1)
    found = torch.add(one, other, alpha=3)
    torch.testing.assert_close(found.dense(), one.dense() + 3 * other.dense())
