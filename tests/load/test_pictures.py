"""Pictures: colours as every viewer shows them, labels as they are stored, and clear refusals."""

import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segxai.errors import SegxaiError
from segxai.load.limits import at_most
from segxai.load.pictures import load_picture, load_picture_labels
from tests.pickles import Bomb

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
LABELS = np.array([[0, 1, 1], [0, 0, 7]], dtype=np.uint8)


def saved(folder, name, image, **options):
    image.save(folder / name, **options)
    return folder / name


def channels_first(pixels):
    return np.moveaxis(pixels, -1, 0)


# --------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm", "A.PNG"])
def test_colours_are_those_of_the_file(tmp_path, name):
    picture = load_picture(saved(tmp_path, name, Image.fromarray(RGB)), "image")
    assert picture.pixels.dtype == np.float32
    np.testing.assert_array_equal(picture.pixels, channels_first(RGB))
    assert picture.notes == ()
    assert (picture.source.role, picture.source.name) == ("image", name)
    assert len(picture.source.sha256) == 64


def test_a_jpeg_is_read(tmp_path):
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    picture = load_picture(saved(tmp_path, "a.jpg", Image.fromarray(flat), quality=95), "image")
    assert abs(picture.pixels - channels_first(flat)).max() < 4


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.swapaxes(0, 1)),
        (6, np.rot90(RGB, -1)),
        (7, RGB[::-1, ::-1].swapaxes(0, 1)),
        (8, np.rot90(RGB)),
    ],
)
def test_the_exif_orientation_is_applied_and_said(tmp_path, name, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, name, Image.fromarray(RGB), exif=exif)
    picture = load_picture(path, "image")
    np.testing.assert_array_equal(picture.pixels, channels_first(turned))
    assert picture.notes == (f"turned as its EXIF orientation {orientation} says",)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_is_repeated(tmp_path, name):
    picture = load_picture(saved(tmp_path, name, Image.fromarray(GREY)), "image")
    np.testing.assert_array_equal(picture.pixels, np.stack([GREY] * 3))
    assert picture.notes == ("grey: repeated as red, green, blue",)


def test_black_and_white_are_0_and_255(tmp_path):
    picture = load_picture(saved(tmp_path, "a.png", Image.fromarray(GREY > 100)), "image")
    np.testing.assert_array_equal(picture.pixels[1], 255.0 * (GREY > 100))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bits_keep_their_fraction(tmp_path, name):
    deep = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1900
    picture = load_picture(saved(tmp_path, name, Image.fromarray(deep)), "image")
    np.testing.assert_allclose(picture.pixels[0], deep / 257, rtol=1e-6)
    assert picture.pixels.max() <= 255
    assert "divided by 257" in picture.notes[0]


def write_deep_png(path):
    """A PNG with 16 bits a colour, which Pillow cannot write: 2 x 1 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = b"\0" + struct.pack(">6H", 0, 257 * 10, 65535, 1, 2, 257 * 200 + 99)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_colours_became_8_bit_and_that_is_said(tmp_path):
    picture = load_picture(write_deep_png(tmp_path / "deep.png"), "image")
    np.testing.assert_allclose(picture.pixels[:, 0].T, [[0, 10, 255], [0, 0, 200]], atol=1)
    assert picture.notes == ("16-bit colours became 8-bit",)


def test_transparent_pixels_are_laid_on_white(tmp_path):
    alpha = np.full((5, 7, 1), 255, dtype=np.uint8)
    alpha[0, 0], alpha[1, 1] = 0, 128
    path = saved(tmp_path, "a.png", Image.fromarray(np.dstack([RGB, alpha])))
    picture = load_picture(path, "image")
    share = alpha / 255
    expected = channels_first(share * RGB + (1 - share) * 255)
    assert abs(picture.pixels - expected).max() <= 1  # it is rounded
    assert picture.notes == ("transparent pixels are laid on white",)


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])))
    picture = load_picture(path, "image")
    np.testing.assert_array_equal(picture.pixels, channels_first(RGB))
    assert picture.notes == ()


def test_grey_with_transparency_is_grey_on_white(tmp_path):
    clear = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(np.zeros_like(GREY))])
    picture = load_picture(saved(tmp_path, "a.png", clear), "image")
    assert (picture.pixels == 255).all()
    assert len(picture.notes) == 2


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.fromarray(LABELS)
    image.putpalette([0, 0, 0, 10, 20, 30] + [0] * 15 + [255, 128, 0])
    picture = load_picture(saved(tmp_path, "a.png", image), "image")
    assert picture.pixels[:, 0, 1].tolist() == [10, 20, 30]
    assert picture.pixels[:, 1, 2].tolist() == [255, 128, 0]


def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path):
    image = Image.fromarray(LABELS)
    image.putpalette([0, 0, 0, 10, 20, 30])
    picture = load_picture(saved(tmp_path, "a.png", image, transparency=1), "image")
    assert picture.pixels[:, 0, 1].tolist() == [255, 255, 255]
    assert picture.pixels[:, 0, 0].tolist() == [0, 0, 0]


def test_print_colours_are_converted_and_that_is_said(tmp_path):
    white = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    picture = load_picture(saved(tmp_path, "a.tif", white), "image")
    assert (picture.pixels == 255).all()
    assert picture.notes == ("converted from CMYK to RGB without a colour profile",)


def test_the_first_of_several_frames_is_taken(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (9, 200)]
    path = saved(tmp_path, "a.gif", frames[0], save_all=True, append_images=frames[1:])
    picture = load_picture(path, "image")
    assert (picture.pixels == 9).all()
    assert "first of its 2 frames" in picture.notes[0]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bits_a_pixel_are_refused(tmp_path, kind):
    path = saved(tmp_path, "a.tif", Image.fromarray(GREY.astype(kind)))
    with pytest.raises(SegxaiError, match=r"a.tif holds 32 bits"):
        load_picture(path, "image")


# ----------------------------------------------------------------------------------- refused files


@pytest.mark.parametrize("read", [load_picture, load_picture_labels])
def test_what_is_no_picture_is_refused(tmp_path, read):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(SegxaiError, match=r"a.png is not one of PNG"):
        read(tmp_path / "a.png", "x")


def test_no_program_is_run_for_a_file(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(SegxaiError, match="is not one of PNG"):  # no Ghostscript
        load_picture(tmp_path / "a.png", "image")


@pytest.mark.parametrize("read", [load_picture, load_picture_labels])
def test_a_file_that_was_cut_off_is_refused(tmp_path, read):
    path = saved(tmp_path, "a.png", Image.fromarray(RGB))
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(SegxaiError, match=r"a.png .*truncated"):
        read(path, "image")


@pytest.mark.parametrize("read", [load_picture, load_picture_labels])
@pytest.mark.parametrize("most", [1000, 2000])  # of 2400: Pillow fails, or merely warns
def test_a_decompression_bomb_is_refused(tmp_path, read, most):
    path = saved(tmp_path, "a.png", Image.new("1", (60, 40)))
    words = rf"a.png claims more than {most / 1000:g}e\+03 pixels, too many"
    with at_most(most), pytest.raises(SegxaiError, match=words):
        read(path, "image")


@pytest.mark.parametrize("read", [load_picture, load_picture_labels])
def test_a_file_that_is_not_there_is_named_with_the_nearest(tmp_path, read):
    saved(tmp_path, "photo.png", Image.fromarray(RGB))
    with pytest.raises(SegxaiError, match=r"photos.png not found.* 'photo.png'\?"):
        read(tmp_path / "photos.png", "image")
    with pytest.raises(SegxaiError, match="zzz not found.* no name"):
        read(tmp_path / "zzz", "image")
    with pytest.raises(SegxaiError, match="there is no folder"):
        read(tmp_path / "no" / "a.png", "image")
    with pytest.raises(SegxaiError, match="is a folder"):
        read(tmp_path, "image")


# -------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_labels_are_the_stored_numbers(tmp_path, kind):
    path = saved(tmp_path, "a.tif", Image.fromarray(LABELS.astype(kind)))
    labels, source = load_picture_labels(path, "mask")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS)
    assert (source.role, source.name) == ("mask", "a.tif")


def test_labels_of_a_palette_are_its_indices(tmp_path):
    image = Image.fromarray(LABELS)
    image.putpalette([0, 0, 0, 10, 20, 30] + [0] * 15 + [255, 128, 0])
    labels, _ = load_picture_labels(saved(tmp_path, "a.png", image), "mask")
    np.testing.assert_array_equal(labels, LABELS)


def test_labels_of_black_and_white_are_0_and_1(tmp_path):
    labels, _ = load_picture_labels(saved(tmp_path, "a.png", Image.fromarray(LABELS > 0)), "mask")
    np.testing.assert_array_equal(labels, LABELS > 0)


@pytest.mark.parametrize("planes", [3, 4])
def test_labels_of_grey_colours_are_their_grey(tmp_path, planes):
    stack = np.dstack([LABELS] * 3 + [np.full_like(LABELS, 255)])[..., :planes]
    labels, _ = load_picture_labels(saved(tmp_path, "a.png", Image.fromarray(stack)), "mask")
    np.testing.assert_array_equal(labels, LABELS)


def test_a_mask_is_turned_as_its_picture_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "a.png", Image.fromarray(LABELS), exif=exif)
    np.testing.assert_array_equal(load_picture_labels(path, "mask")[0], np.rot90(LABELS, -1))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float64])
def test_labels_of_an_array_file(tmp_path, kind):
    np.save(tmp_path / "a.npy", LABELS.astype(kind))
    labels, _ = load_picture_labels(tmp_path / "a.npy", "mask")
    np.testing.assert_array_equal(labels, LABELS.astype(kind))


def test_an_array_file_runs_no_code(folder):
    np.save("a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(SegxaiError, match=r"a.npy cannot be read as an array"):
        load_picture_labels("a.npy", "mask")
    (folder / "b.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SegxaiError, match=r"b.npy cannot be read as an array"):
        load_picture_labels("b.npy", "mask")
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[0, 1.5]], r"1 pixels are not whole numbers from 0 \(the first is 1.5 at y 0, x 1\)"),
        ([[3, 0], [-2, 0]], r"1 pixels are not .* \(the first is -2 at y 1, x 0\)"),
        ([[np.nan, 1]], "1 pixels are not whole numbers"),
        ([[1e12, 1]], "1 pixels are not whole numbers"),
        ([[0, 0]], "a.npy is empty: every pixel is 0"),
        ([1, 2], r"is not a mask: it is an array \(2,\)"),
        (np.zeros((2, 2, 3)), r"is not a mask: it is an array \(2, 2, 3\)"),
        (np.array([["a"]]), "is not a mask: it is an array"),
    ],
)
def test_what_is_no_mask_is_refused(folder, values, words):
    np.save("a.npy", values)
    with pytest.raises(SegxaiError, match=words):
        load_picture_labels("a.npy", "mask")


def test_colours_are_no_labels(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(RGB))
    with pytest.raises(SegxaiError, match="a.png holds colours, not labels"):
        load_picture_labels(path, "mask")


def test_blurred_labels_are_refused(tmp_path):
    path = saved(tmp_path, "a.jpg", Image.fromarray(LABELS))
    with pytest.raises(SegxaiError, match=r"a.jpg is not one of .*JPEG"):
        load_picture_labels(path, "mask")


def test_a_stack_of_masks_is_refused(tmp_path):
    image = Image.fromarray(LABELS)
    path = saved(tmp_path, "a.tif", image, save_all=True, append_images=[image])
    with pytest.raises(SegxaiError, match="a.tif has 2 frames"):
        load_picture_labels(path, "mask")
