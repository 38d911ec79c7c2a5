"""Interpolation and padding that repeats the image take rows to the voxels that they read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests import literal
from tests.networks import image_of
from tests.rows.rules.boxes import MIDDLE, agree, box_by, compare, examples, fractions, in_each_axis

MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}
KINDS = [(axes, mode) for axes, modes in MODES.items() for mode in modes]
INTERPOLATED = ("linear", "bilinear", "bicubic", "trilinear")


@pytest.mark.parametrize(("axes", "mode"), KINDS)
@examples(20)
@given(data=st.data(), where=fractions)
def test_interpolation(axes, mode, data, where):
    # The area of all space would be its average, which spreads over it.
    grid = in_each_axis(data.draw, axes, 4 if mode == "area" else 2, 7)
    options = {"mode": mode}
    if mode in INTERPOLATED:
        options["align_corners"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        options["size"] = in_each_axis(data.draw, axes, 2, 12)
    else:
        factors = st.sampled_from([0.5, 0.7, 1.0, 1.7, 2.0, 3.0])
        options["scale_factor"] = tuple(data.draw(factors) for _ in grid)
        options["recompute_scale_factor"] = data.draw(st.sampled_from([None, True]))
    resize = lambda x: functional.interpolate(x, **options)  # noqa: E731
    agree(*compare(resize, image_of((3, *grid)), box_by(where)), tight=True)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_interpolation_against_aliasing_is_left_to_the_dense_way(mode):
    resize = lambda x: functional.interpolate(x, size=(4, 3), mode=mode, antialias=True)  # noqa: E731
    agree(*compare(resize, image_of((3, 8, 7)), box_by(MIDDLE)), on_box=False)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@examples(20)
@given(data=st.data(), where=fractions)
def test_padding_that_repeats_the_image(axes, mode, data, where):
    grid = in_each_axis(data.draw, axes, 4, 7)
    pads = in_each_axis(data.draw, 2 * axes, 0, 3)
    agree(
        *compare(lambda x: functional.pad(x, pads, mode=mode), image_of((3, *grid)), box_by(where)),
        tight=True,
    )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_padding_of_a_convolution(mode):
    layer = nn.Conv2d(3, 2, 5, padding=2, padding_mode=mode)
    layer = literal.seeded(layer).requires_grad_(False)
    for where in ([(0, 0)] * 3, [(0.5, 0.3)] * 3, [(1, 1)] * 3):
        agree(*compare(layer, image_of((3, 8, 9)), box_by(where)), tight=True)
