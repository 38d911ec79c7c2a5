"""Image processors: what they do to a picture, and what is assumed without one."""

import numpy as np
from PIL import Image
from segxai_natural_image import processors
from transformers import MobileViTImageProcessor, SegformerImageProcessor

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


def triangles(size, wanted):
    """The matrix that averages a line of pixels under triangles as wide as two of the new ones."""
    step = size / wanted
    matrix = np.zeros((wanted, size))
    for new in range(wanted):
        for old in range(size):
            matrix[new, old] = max(0, 1 - abs(old + 0.5 - (new + 0.5) * step) / step)
    return matrix / matrix.sum(axis=1, keepdims=True)


def test_without_a_processor_no_pixel_is_skipped(folder):
    """46 x 70 pixels become 32 x 64; every pixel counts, as in Pillow."""
    natural.segformer(folder)
    (folder / "preprocessor_config.json").unlink()
    case = adapter(folder).read({"image": natural.picture(folder / "a.png", (46, 70))})
    pixels = np.moveaxis(case.picture, -1, 0) / 255
    mean, std = np.array(processors.IMAGENET_MEAN), np.array(processors.IMAGENET_STD)
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    wanted = triangles(46, 32) @ normalised @ triangles(70, 64).T
    np.testing.assert_allclose(case.image, wanted, atol=1e-5)


def test_sixteen_bits_are_rounded_to_eight_for_a_processor(folder):
    natural.segformer(folder)
    values = np.random.default_rng(0).integers(0, 2**16, (64, 96), dtype=np.uint16)
    Image.fromarray(values).save(folder / "a.png")
    case = adapter(folder).read({"image": folder / "a.png"})
    nearest = np.array([[round(int(one) / 257) for one in row] for row in values], dtype=np.uint8)
    assert (nearest != values // 257).mean() > 0.4  # cut off, they would be darker
    processor = SegformerImageProcessor.from_pretrained(folder)
    found = processor(images=np.stack([nearest] * 3, axis=-1), return_tensors="np")
    np.testing.assert_allclose(case.image, found["pixel_values"][0], atol=1e-6)


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
