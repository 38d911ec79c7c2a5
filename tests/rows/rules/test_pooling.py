"""Pooling takes rows to the windows that it pooled, and to nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.networks import image_of
from tests.rows.rules.boxes import (
    MIDDLE,
    agree,
    box_by,
    compare,
    examples,
    fractions,
    in_each_axis,
    whole,
)

MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE = {
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
    "average": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
}


@st.composite
def windows(draw, dilated=False):
    """Kernel, stride and padding of a pooling of 1 to 3 axes, and a grid for it."""
    axes = draw(whole(1, 3))
    kernel = in_each_axis(draw, axes, 1, 3)
    padding = tuple(draw(whole(0, k // 2)) for k in kernel)
    options = {
        "kernel_size": kernel,
        "stride": draw(st.sampled_from([None, in_each_axis(draw, axes, 1, 3)])),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    reach = kernel
    if dilated:
        options["dilation"] = in_each_axis(draw, axes, 1, 2)
        reach = tuple(d * k for d, k in zip(options["dilation"], kernel, strict=True))
    return options, tuple(draw(whole(r + 1, r + 6)) for r in reach)


@examples(60)
@given(arguments=windows(dilated=True), where=fractions)
def test_max_pooling(arguments, where):
    options, grid = arguments
    pool = MAX[len(grid)]
    agree(*compare(lambda x: pool(x, **options), image_of((3, *grid)), box_by(where)), tight=True)


@examples(60)
@given(
    arguments=windows(),
    where=fractions,
    count_padding=st.booleans(),
    divisor=st.sampled_from([None, 5]),
)
def test_average_pooling(arguments, where, count_padding, divisor):
    options, grid = arguments
    options = {**options, "count_include_pad": count_padding}
    if len(grid) > 1:
        options["divisor_override"] = divisor
    pool = AVERAGE[len(grid)]
    agree(*compare(lambda x: pool(x, **options), image_of((3, *grid)), box_by(where)), tight=True)


@st.composite
def adaptive(draw):
    """A grid, and a smaller one of several voxels."""
    small = in_each_axis(draw, draw(whole(1, 3)), 2, 4)
    return small, tuple(draw(whole(n, 9)) for n in small)


@pytest.mark.parametrize("kind", ["max", "average"])
@examples(30)
@given(sizes=adaptive(), where=fractions)
def test_adaptive_pooling(kind, sizes, where):
    small, grid = sizes
    pool = ADAPTIVE[kind][len(grid)](small)
    agree(*compare(pool, image_of((3, *grid)), box_by(where)), tight=True)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_average_of_all_space_spreads_over_it(axes):
    image = image_of((3, 6, 5, 4)[: 1 + axes])
    agree(*compare(ADAPTIVE["average"][axes](1), image, box_by(MIDDLE)), on_box=False)
    agree(*compare(ADAPTIVE["max"][axes](1), image, box_by(MIDDLE)), tight=True)


def test_the_average_of_one_axis_keeps_to_its_box_along_the_others():
    image = image_of((3, 6, 9))
    agree(*compare(lambda x: x.mean(dim=2, keepdim=True), image, box_by(MIDDLE)), tight=True)
    agree(*compare(nn.AdaptiveAvgPool2d((1, 4)), image, box_by(MIDDLE)), tight=True)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(3), nn.AdaptiveAvgPool2d(3)]
)
def test_rows_that_are_dense_already_stay_dense(pool):
    """Behind the pooling comes an operation without a rule."""
    function = nn.Sequential(pool, nn.Softmax(dim=2))
    agree(*compare(function, image_of((3, 8, 6)), box_by(MIDDLE)), on_box=False)
