"""Image processors: what they do to a picture, and what is assumed without one."""

import numpy as np
from segxai_natural_image import processors
from transformers import MobileViTImageProcessor

from tests.natural_image import models as natural
from tests.natural_image.models import adapter, refused


def test_without_a_processor_colours_are_those_of_imagenet(folder):
    natural.segformer(folder)
    (folder / "preprocessor_config.json").unlink()
    found = adapter(folder)
    assert "no preprocessor_config.json" in found.notes[1]
    case = found.read({"image": natural.picture(folder / "a.png", (64, 32))})
    assert case.grid.shape == (64, 32)
    pixels = np.moveaxis(case.picture, -1, 0) / 255
    wanted = (pixels - np.array(processors.IMAGENET_MEAN)[:, None, None]) / np.array(
        processors.IMAGENET_STD
    )[:, None, None]
    np.testing.assert_allclose(case.image, wanted, atol=1e-5)
    np.testing.assert_allclose(case.black, (-2.117904, -2.035714, -1.804444), atol=1e-6)
    case = found.read({"image": natural.picture(folder / "a.png", (46, 70))})
    assert case.grid.shape == (32, 64)


def test_a_processor_that_cannot_be_read(folder):
    natural.segformer(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "Nothing"}')
    refused(folder, r"the image processor of .* cannot be loaded \(.*\); fix its preprocessor")


def test_blue_first_and_no_crop(folder):
    natural.segformer(folder)
    MobileViTImageProcessor(size={"shortest_edge": 40}).save_pretrained(folder)
    found = adapter(folder)
    assert found.channels == ("blue", "green", "red")
    assert "do_center_crop of its image processor is left out" in found.notes[1]
    case = found.read({"image": natural.picture(folder / "a.png", (40, 60))})
    assert case.input_unit == "full scale"
    assert case.black == (0, 0, 0)
    wanted = np.moveaxis(case.picture[..., ::-1], -1, 0) / 255
    np.testing.assert_allclose(case.image, wanted, atol=1e-6)
