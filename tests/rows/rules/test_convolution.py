"""Convolutions widen the box of rows, transposed ones narrow it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segxai.rows.rules.convolution import _by_phases
from tests import literal
from tests.networks import image_of
from tests.rows.rules.boxes import agree, box_by, compare, examples, fractions, whole


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


def test_the_adjoint_of_a_strided_convolution_by_phases():
    """The form for few channels is the transposed convolution."""
    generator = torch.Generator().manual_seed(0)
    for kernel, stride in [((3, 3), (2, 2)), ((5, 2), (2, 3)), ((1, 4), (2, 1)), ((7, 3), (4, 2))]:
        rows, weight = torch.randn(2, 5, 4, 6, generator=generator), torch.randn(5, 3, *kernel)
        wanted = nn.functional.conv_transpose2d(rows, weight, stride=stride)
        assert literal.worst(_by_phases(rows, weight, stride), wanted) < 1e-6


def test_a_single_stride_is_that_of_every_axis():
    weight = image_of((4, 2, 3, 3))[0].reshape(4, 2, 3, 3)

    def convolve(image):
        return torch.conv2d(image, weight, stride=(2,), padding=(1,), dilation=(1,))

    agree(*compare(convolve, image_of((2, 9, 12)), box_by([(0.3, 0.4)] * 2)))
