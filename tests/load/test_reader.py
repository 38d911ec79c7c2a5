"""Reading a case: which plane of a picture is which channel, and what black becomes."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segxai.load.normalisation import Normalisation, find_normalisation
from segxai.load.reader import Reader, order_of_colours


def test_planes_follow_the_names_of_channels():
    assert order_of_colours(("red", "green", "blue")) == (0, 1, 2)
    assert order_of_colours(("blue", "green", "red")) == (2, 1, 0)
    assert order_of_colours(("B", "G", "R")) == (2, 1, 0)
    assert order_of_colours(("one", "two", "three")) == (0, 1, 2)


@pytest.fixture
def volume(tmp_path):
    data = np.random.default_rng(0).uniform(1, 9, (6, 5, 4)).astype(np.float32)
    data[:2] = 0
    nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1])), tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz"


def test_a_case_keeps_what_0_in_its_files_becomes(volume):
    reader = Reader(("ct",), find_normalisation("mean:2;std:4", 1), spacing_mm=1.0)
    case = reader.read({"ct": volume})
    assert case.black == (-0.5,)
    assert case.image[0, 0, 0, 0] == -0.5


def test_black_of_a_picture_follows_the_order_of_its_channels(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "dark.png")
    reader = Reader(("blue", "green", "red"), find_normalisation("mean:1,2,3;std:1", 3))
    case = reader.read({"image": tmp_path / "dark.png"})
    assert case.black == (-1, -2, -3)
    np.testing.assert_array_equal(case.image[:, 0, 0], case.black)


def test_of_a_normalisation_of_ones_own_black_is_not_guessed(volume):
    """It may follow the image: what it makes of zeros alone would be something else."""
    own = Normalisation("own", "spread", lambda image: (image - image.mean()) / image.std())
    assert Reader(("ct",), own).read({"ct": volume}).black is None
