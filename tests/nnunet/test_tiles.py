"""Tiles and their weights are those of nnU-Net."""

import numpy as np
import pytest
import torch
from segxai_nnunet.tiles import gaussian, tiles

from tests.nnunet import folders as nnunet


@pytest.mark.parametrize("patch", [(32, 32, 32), (8, 20, 14), (7, 9), (128, 96, 96)])
def test_weights_in_a_tile_are_those_of_nnunet(theirs, patch):
    wanted = theirs.compute_gaussian(patch, 1 / 8, 10, device=torch.device("cpu"))
    np.testing.assert_array_equal(gaussian(patch), wanted.float())


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 20, 14), (9, 26, 23), (20, 25, 10)])
def test_tiles_lie_where_those_of_nnunet_do(theirs, patch):
    steps = theirs.compute_steps(nnunet.SHAPE, patch, 0.5)
    wanted = [(x, y, z) for x in steps[0] for y in steps[1] for z in steps[2]]
    assert [one.start for one in tiles(nnunet.SHAPE, patch).windows] == wanted


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 30, 14), (32, 32, 32), (12, 40)])
def test_shares_sum_to_1_everywhere(patch):
    layout = tiles(nnunet.SHAPE, patch)
    total = torch.zeros(layout.shape)
    for window in layout.windows:
        total[window.inside(layout.shape).index] += layout.share(window)
    torch.testing.assert_close(total, torch.ones(layout.shape), rtol=0, atol=1e-5)
