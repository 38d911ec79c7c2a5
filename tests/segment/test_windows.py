"""The layout of windows is MONAI's, and the shares of all windows sum to 1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import nn

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.segment.inference_mode import frozen
from segxai.segment.predict import segment
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from segxai.types import Case
from tests.literal import worst
from tests.networks import image_of, net2d, small_unet


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


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 24)), min_size=1, max_size=3),
    overlap=st.floats(0, 0.9),
)
def test_shares_of_all_windows_sum_to_one(sizes, overlap):
    shape, window = zip(*sizes, strict=True)
    layout = sliding_window(shape, window, overlap)
    total = torch.zeros(shape)
    for one in layout.windows:
        total[one.inside(shape).index] += layout.share(one)
    assert torch.allclose(total, torch.ones(shape), atol=1e-4)  # hundreds of windows in float32


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


def test_a_crop_of_a_crop_is_itself():
    layout = sliding_window((40, 36), (16, 16))
    once, _ = layout.crop_to(np.array([[20, 20]]))
    twice, box = once.crop_to(np.array([[20, 20]]) - [once_start(layout)])
    assert (twice.windows, box.start) == (once.windows, (0, 0))


def once_start(layout):
    return np.array(layout.crop_to(np.array([[20, 20]]))[1].start)


def test_padding_is_said():
    assert sliding_window((40, 36), (16, 16)).notes() == ()
    assert sliding_window((40, 9), (16, 16)).notes() == (
        "an image of 40 x 9 voxels is padded with 0 to the window of 16 x 16",
    )


def test_the_whole_image_is_one_window():
    network, image = net2d(), image_of((3, 20, 24))
    with torch.no_grad():
        assert torch.equal(Predictor(network, whole_image((20, 24)))(image), network(image))


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        ((16, 16), 0.25, "a window of 2 axes .* does not fit an image of 3 axes"),
        ((16, 16, 16), 1.0, "overlap"),
        ((16, 0, 16), 0.25, "sizes must be at least 1"),
    ],
)
def test_a_senseless_layout_is_refused(window, overlap, message):
    with pytest.raises(SegxaiError, match=message):
        sliding_window((32, 32, 32), window, overlap)


def test_a_size_that_does_not_fit_the_stride_is_explained():
    predictor = Predictor(small_unet(), whole_image((18, 18, 18)))
    with pytest.raises(SegxaiError, match="fails on an input of shape .*multiple of its stride"):
        predictor(image_of((2, 18, 18, 18)))


def test_an_output_that_is_no_map_of_logits_is_refused():
    predictor = Predictor(nn.Sequential(nn.Conv2d(1, 2, 3)), whole_image((8, 8)))
    with pytest.raises(SegxaiError, match=r"maps \(1, 1, 8, 8\) to \(1, 2, 6, 6\)"):
        predictor(image_of((1, 8, 8)))


def bare_case(image):
    grid = Grid.unit(image.shape[1:])
    names = tuple(f"channel {k}" for k in range(len(image)))
    return Case("bare", image, names, grid, np.ones(grid.shape, dtype=bool))


def test_segment_checks_the_number_of_classes():
    image = image_of((3, 8, 8))[0].numpy()
    predictor = Predictor(net2d(), whole_image((8, 8)))
    assert segment(predictor, bare_case(image), ("a", "b", "c")).logits.shape == (3, 8, 8)
    with pytest.raises(SegxaiError, match="returns 3 logits .* names 2 classes"):
        segment(predictor, bare_case(image), ("a", "b"))


@pytest.mark.parametrize("explained", [None, 0, 2])
def test_slabs_and_a_kept_class_change_no_value(monkeypatch, explained):
    image = image_of((3, 11, 8))[0].numpy()
    predictor = Predictor(net2d(), sliding_window((11, 8), (8, 8), 0.5))
    names = ("a", "b", "c")
    whole = segment(predictor, bare_case(image), names)
    monkeypatch.setattr("segxai.segment.predictor.SLAB", 3 * 8 * 4)  # the last one is thinner
    monkeypatch.setattr("segxai.segment.predict.MOST_KEPT", 10)
    found = segment(predictor, bare_case(image), names, explained=explained)
    kept = range(3) if explained is None else [explained]
    assert found.kept == tuple(kept)
    for index in kept:
        np.testing.assert_array_equal(found.probability(index), whole.probability(index))
        np.testing.assert_array_equal(found.mask(index, 0.4), whole.mask(index, 0.4))
    for index in range(3):
        np.testing.assert_array_equal(found.mask(index, None), whole.mask(index, None))
    softmax = torch.softmax(predictor(torch.from_numpy(image)[None])[0], dim=0).detach().numpy()
    for index in range(3):
        np.testing.assert_allclose(whole.probability(index), softmax[index], rtol=1e-5)


def test_segment_refuses_logits_that_are_not_finite():
    network = net2d()
    network.last.bias.data[0] = float("nan")
    predictor = Predictor(network, whole_image((8, 8)))
    with pytest.raises(SegxaiError, match="not finite"):
        segment(predictor, bare_case(image_of((3, 8, 8))[0].numpy()), ("a", "b", "c"))


def test_frozen_gives_the_network_back_as_it_was():
    network = net2d().train()
    network.norm.eval()
    network.last.weight.requires_grad_(False)
    with frozen(network):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    with pytest.raises(KeyError), frozen(network):
        raise KeyError
    assert network.training
    assert not network.norm.training
    frozen_ones = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen_ones == ["last.weight"]
