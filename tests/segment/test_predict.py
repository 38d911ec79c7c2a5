"""Segmentation of a case: its classes are checked, and slabs change no value."""

import numpy as np
import pytest
import torch

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.segment.predict import segment
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import sliding_window, whole_image
from segxai.types import Case
from tests.networks import coarse_network, image_of, net2d


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


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_segment_refuses_logits_that_are_not_finite(number):
    network = net2d()
    network.last.bias.data[0] = number
    predictor = Predictor(network, whole_image((8, 8)))
    with pytest.raises(SegxaiError, match="not finite"):
        segment(predictor, bare_case(image_of((3, 8, 8))[0].numpy()), ("a", "b", "c"))


def test_slabs_of_a_readout_are_its_logits(monkeypatch):
    """They are made one by one, from the coarse logits."""
    readout = Readout.linear((6, 5), (35, 31))
    predictor = Predictor(coarse_network(), whole_image((24, 20)), readout=readout)
    image = image_of((2, 24, 20))
    whole = predictor(image)[0]
    monkeypatch.setattr("segxai.segment.predictor.SLAB", whole.shape[0] * 31 * 8)
    slabs = list(predictor.slabs(image))
    assert [one.shape[1] for one in slabs] == [8, 8, 8, 8, 3]
    torch.testing.assert_close(torch.cat(slabs, dim=1), whole, rtol=0, atol=1e-6)
