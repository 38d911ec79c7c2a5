"""Shapes and order: rows keep to a box through whatever keeps voxels together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.blocks import SubpixelUpsample
from torch import nn

from tests import literal
from tests.networks import image_of
from tests.rows.rules.boxes import MIDDLE, agree, box_by, compare, examples, fractions, whole


@examples(20)
@given(where=fractions)
def test_shapes_that_keep_the_grid(where):
    image = image_of((6, 4, 5))
    for function in (
        lambda x: x.view(1, 6, 4, 5),
        lambda x: x.unsqueeze(2).squeeze(2),
        lambda x: x[None].squeeze(0),
        lambda x: x.view(1, 2, 3, 4, 5).transpose(1, 2).reshape(1, 6, 4, 5),
        lambda x: x.view(1, 2, 3, 4, 5).sum(1),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: x.mT.contiguous(),
        lambda x: x.repeat(1, 2, 1, 1),
        lambda x: x.repeat_interleave(2, dim=1),
        lambda x: x.repeat_interleave(3, dim=2),
        lambda x: x.to(torch.float64).float(),
    ):
        agree(*compare(function, image, box_by(where)), tight=True)


@examples(40)
@given(
    where=fractions,
    shapes=st.sampled_from(
        [
            ((2, 12, 5), (2, 3, 4, 5)),
            ((2, 3, 4, 5), (2, 12, 5)),
            ((2, 6, 4), (2, 4, 6)),
            ((2, 4, 9), (2, 6, 6)),
            ((2, 4, 9), (2, 6, 1, 2, 3)),
            ((4, 6, 5), (2, 2, 1, 6, 5)),
            ((4, 3, 5), (12, 5)),
            ((4, 3, 5), (1, 60)),
            ((1, 60), (4, 3, 5)),
        ]
    ),
)
def test_axes_that_split_and_merge(where, shapes):
    before, after = shapes
    agree(*compare(lambda x: x.view(1, *after), image_of(before), box_by(where)))


def test_an_axis_that_splits_costs_no_more_than_whole_blocks():
    found, wanted = compare(
        lambda x: x.view(1, 2, 12, 5), image_of((2, 3, 4, 5)), box_by([(0.5, 0.2), (0.4, 0.3)])
    )
    agree(found, wanted)  # voxel 6 of 12 is in block 1 of 3
    assert (found.box.start, found.box.size) == ((1, 0, 2), (1, 4, 1))


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 3, 2, 1), (0, 2, 3, 1)])
def test_channels_may_change_their_place(order):
    agree(*compare(lambda x: x.permute(order), image_of((3, 4, 5)), box_by(MIDDLE)))


def test_the_first_axis_stays_where_it_is():
    agree(*compare(lambda x: x[0], image_of((3, 4, 5)), box_by(MIDDLE)), on_box=False)
    tokens = lambda x: x.flatten(2).permute(2, 0, 1).permute(1, 2, 0)  # noqa: E731
    agree(*compare(tokens, image_of((3, 4, 5)), box_by(MIDDLE)), on_box=False)


@examples(15)
@given(where=fractions, factor=whole(2, 3))
def test_pixel_shuffles(where, factor):
    image = image_of((2 * factor**2, 3, 4))
    agree(*compare(nn.PixelShuffle(factor), image, box_by(where)), tight=True)
    image = image_of((2, 3 * factor, 2 * factor))
    agree(*compare(nn.PixelUnshuffle(factor), image, box_by(where)), tight=True)


@pytest.mark.parametrize("axes", [1, 2, 3])
@examples(10)
@given(where=fractions)
def test_sub_pixel_upsampling_of_monai(axes, where):
    layer = literal.seeded(SubpixelUpsample(axes, 3, 2, scale_factor=2)).requires_grad_(False)
    agree(*compare(layer, image_of((3, 5, 4, 3)[: 1 + axes]), box_by(where)))
