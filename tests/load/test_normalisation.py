"""Normalisations that a user may name: what each of them computes."""

import numpy as np
import pytest
import torch

from segxai.errors import SegxaiError
from segxai.load.normalisation import find_normalisation


def raw(scale=100.0):
    image = np.random.default_rng(0).uniform(1, scale, (3, 6, 7)).astype(np.float32)
    image[:, 0] = 0
    return image


def test_none_changes_nothing():
    image = raw()
    np.testing.assert_array_equal(find_normalisation("none", 3).apply(image), image)


@pytest.mark.parametrize("shift", [0, -60])
def test_z_scores_are_those_of_each_channel_where_it_is_not_0(shift):
    """Values below 0, as in computed tomography, count like all others."""
    image = raw()
    image[image != 0] += shift
    found = find_normalisation("z-score", 3).apply(image)
    for before, after in zip(image, found, strict=True):
        inside = before != 0
        expected = (before[inside] - before[inside].mean()) / before[inside].std()
        np.testing.assert_allclose(after[inside], expected, atol=1e-5)
        assert (after[~inside] == 0).all()


def test_a_constant_channel_has_no_z_scores():
    assert (find_normalisation("z-score", 1).apply(np.full((1, 4, 4), 7, np.float32)) == 0).all()


def test_means_and_ranges():
    image = raw()
    np.testing.assert_allclose(find_normalisation("unit", 3).apply(image), image / 255)
    found = find_normalisation("mean:10,20,30;std:1,2,4", 3).apply(image)
    expected = (image - np.array([10, 20, 30])[:, None, None]) / np.array([1, 2, 4])[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        find_normalisation("mean:10;std:2", 3).apply(image), (image - 10) / 2
    )
    clipped = find_normalisation("range:20,60", 3).apply(image)
    np.testing.assert_allclose(clipped, (image.clip(20, 60) - 20) / 40, rtol=1e-5)


def test_imagenet_is_that_of_torchvision():
    from torchvision.transforms.functional import normalize

    image = raw(255)
    expected = normalize(
        torch.from_numpy(image) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    found = find_normalisation("imagenet", 3).apply(image)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


BLACK = {
    "none": (0, 0, 0),
    "z-score": (0, 0, 0),
    "unit": (0, 0, 0),
    "imagenet": (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
    "mean:10,20,30;std:1,2,4": (-10, -10, -7.5),
    "mean:10;std:4": (-2.5, -2.5, -2.5),
    "range:-1000,1000": (0.5, 0.5, 0.5),
    "range:20,60": (0, 0, 0),  # clipped
    "range:-60,-20": (1, 1, 1),
}


@pytest.mark.parametrize(("text", "wanted"), BLACK.items())
def test_what_0_becomes_is_known(text, wanted):
    found = find_normalisation(text, 3)
    np.testing.assert_allclose(found.black, wanted, rtol=1e-6)
    image = raw()  # its first rows are 0
    for black, channel in zip(found.black, found.apply(image), strict=True):
        assert (channel[0] == np.float32(black)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zscore", r"--normalise zscore is not known; known: none, z-score"),
        ("mean:1,2;std:1,2", "2 means for 3 channels"),
        ("mean:1;std:0", "a standard deviation must be above 0"),
        ("mean:1", "is not known"),
        ("mean:a;std:b", "is not known"),
        ("range:5", r"give range:LOW,HIGH"),
        ("range:5,1", r"give range:LOW,HIGH"),
        ("range:nan,1", "is not known"),
        ("imagenet", "3 means for 4 channels"),
    ],
)
def test_a_normalisation_that_makes_no_sense(text, message):
    with pytest.raises(SegxaiError, match=message):
        find_normalisation(text, 4 if text == "imagenet" else 3)
