"""Logits of windows are blended as MONAI blends them, and a crop keeps them."""

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.nn import functional

from segxai.errors import SegxaiError
from segxai.segment.predictor import Predictor, stride_of
from segxai.segment.readout import Readout
from segxai.segment.windows import sliding_window, whole_image
from tests.literal import worst
from tests.networks import coarse_network, image_of, net2d, small_unet


@pytest.mark.parametrize(
    ("shape", "overlap"),
    [((40, 36, 14), 0.25), ((16, 16, 16), 0.25), ((17, 33, 50), 0.5), ((9, 8, 40), 0.0)],
)
def test_blended_logits_are_those_of_monai(shape, overlap):
    network, image = small_unet(), image_of((2, *shape))
    with torch.no_grad():
        ours = Predictor(network, sliding_window(shape, (16, 16, 16), overlap))(image)
        theirs = sliding_window_inference(
            image, (16, 16, 16), 1, network, overlap=overlap, mode="gaussian"
        )
    assert worst(ours, theirs) < 1e-6


def test_the_crop_around_voxels_keeps_their_logits():
    network, shape = small_unet(), (40, 36, 14)
    image = image_of((2, *shape))
    predictor = Predictor(network, sliding_window(shape, (16, 16, 16)))
    voxels = np.array([[14, 13, 5], [15, 20, 6]])
    local, box = predictor.crop_to(voxels)
    assert len(local.layout.windows) < len(predictor.layout.windows)
    with torch.no_grad():
        full, crop = predictor(image), local(image[box.index])
    inner = box.local(voxels)
    assert torch.equal(full[0][:, *voxels.T], crop[0][:, *inner.T])


def test_the_whole_image_is_one_window():
    network, image = net2d(), image_of((3, 20, 24))
    with torch.no_grad():
        assert torch.equal(Predictor(network, whole_image((20, 24)))(image), network(image))


def test_a_size_that_does_not_fit_the_stride_is_explained():
    predictor = Predictor(small_unet(), whole_image((18, 18, 18)))
    with pytest.raises(SegxaiError, match="fails on an input of shape"):
        predictor(image_of((2, 18, 18, 18)))


def test_an_output_that_is_no_map_of_logits_is_refused():
    predictor = Predictor(nn.Sequential(nn.Conv2d(1, 2, 3)), whole_image((8, 8)))
    with pytest.raises(SegxaiError, match=r"maps \(1, 1, 8, 8\) to \(1, 2, 6, 6\)"):
        predictor(image_of((1, 8, 8)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_coarse_logits_are_interpolated_to_their_window(rank):
    size = (24, 20, 16)[:rank]
    network, image = coarse_network(rank), image_of((2, *size), seed=1)
    found = Predictor(network, whole_image(size))(image)
    mode = ("linear", "bilinear", "trilinear")[rank - 1]
    wanted = functional.interpolate(network(image), size, mode=mode)
    torch.testing.assert_close(found, wanted)


def test_a_readout_belongs_to_one_window():
    layout = sliding_window((24, 20), (8, 8))
    with pytest.raises(ValueError, match="single window"):
        Predictor(coarse_network(), layout, readout=Readout.linear((2, 2), (9, 9)))


@pytest.mark.parametrize(
    ("logits", "image", "stride"),
    [
        ((16, 12), (16, 12), 1),
        ((8, 6), (16, 12), 2),
        ((4, 3), (16, 12), 4),
        ((3, 5), (13, 17), 4),  # rounded down and up
        ((8, 3), (16, 12), None),
        ((5, 4), (16, 12), None),
    ],
)
def test_the_stride_is_how_many_voxels_a_logit_spans(logits, image, stride):
    assert stride_of((1, 2, *logits), (1, 3, *image)) == stride


def test_instances_live_on_the_grid_of_the_readout():
    layout, readout = whole_image((24, 20)), Readout.linear((6, 5), (35, 31))
    assert Predictor(coarse_network(), layout).domain_shape == (24, 20)
    assert Predictor(coarse_network(), layout, readout=readout).domain_shape == (35, 31)
