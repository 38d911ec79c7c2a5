"""One multi-band TIFF or array for all channels: taken in order, said, or refused."""

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.load.bands import holds_bands, load_bands
from segxai.load.limits import at_most
from segxai.load.normalisation import find_normalisation
from segxai.load.pictures import load_picture
from segxai.load.reader import PICTURE, Reader, input_names, read_case

CHANNELS = ("red", "green", "blue", "nir")
BANDS = np.random.default_rng(0).integers(0, 4000, (4, 6, 5), dtype=np.uint16)
LAST = np.moveaxis(BANDS, 0, -1)
KINDS = {
    "pixels.tif": lambda path: imwrite(path, LAST, photometric="minisblack", planarconfig="contig"),
    "planes.tif": lambda path: imwrite(
        path, BANDS, photometric="minisblack", planarconfig="separate"
    ),
    "pages.tif": lambda path: imwrite(
        path, BANDS, photometric="minisblack", metadata={"axes": "CYX"}
    ),
    "colours.tif": lambda path: imwrite(path, LAST, photometric="rgb"),
    "alpha.tif": lambda path: imwrite(path, LAST, photometric="rgb", extrasamples=["unassalpha"]),
    "first.npy": lambda path: np.save(path, BANDS),
    "last.npy": lambda path: np.save(path, LAST),
    "fractions.npy": lambda path: np.save(path, LAST.astype(np.float64)),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_bands_of_one_file_are_the_channels_in_order(tmp_path, name):
    KINDS[name](tmp_path / name)
    assert input_names(CHANNELS, [str(tmp_path / name)]) == (PICTURE,)
    reader = Reader(CHANNELS, find_normalisation("none", 4))
    words = f"the bands of {name} are taken as red, green, blue, nir, in this order, with their val"
    with pytest.warns(SegxaiWarning, match=words):
        case = read_case(reader.read, {PICTURE: tmp_path / name})
    np.testing.assert_array_equal(case.image, BANDS)
    assert [words in one for one in case.warnings] == [True]
    assert case.sources[0].name == name


def test_bands_that_are_no_colours_fill_three_channels_too(tmp_path):
    imwrite(tmp_path / "a.tif", BANDS[:3], photometric="minisblack", metadata={"axes": "CYX"})
    reader = Reader(("a", "b", "c"), find_normalisation("none", 3))
    with pytest.warns(
        SegxaiWarning, match="the bands of a.tif are taken as a, b, c, in this order"
    ):
        case = reader.read({PICTURE: tmp_path / "a.tif"})
    np.testing.assert_array_equal(case.image, BANDS[:3])


def test_an_array_may_be_the_picture_of_one_channel(tmp_path):
    paths = {}
    for n, channel in enumerate(("a", "b")):
        paths[channel] = tmp_path / f"{channel}.npy"
        np.save(paths[channel], BANDS[n] / 7)
    case = Reader(("a", "b"), find_normalisation("none", 2)).read(paths)
    np.testing.assert_allclose(case.image, BANDS[:2] / 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 6, 4)), "array of 4 x 6 x 4 for 4 channels, and both its first and its last"),
        (np.zeros((3, 6, 5)), "array of 3 x 6 x 5 for 4 channels, and none has that length: give"),
        (np.zeros((6, 5)), "array of 6 x 5 for 4 channels, and none"),
        (np.full((4, 6, 5), np.nan), "holds float64 with values that are not finite real numbers"),
        (np.zeros((4, 6, 5), dtype=complex), "holds complex128 with values that are not finite"),
    ],
)
def test_arrays_that_cannot_be_bands_are_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(SegxaiError, match=words):
        load_bands(tmp_path / "a.npy", CHANNELS, PICTURE)


def test_another_number_of_bands_is_not_taken(tmp_path):
    imwrite(tmp_path / "a.tif", LAST, photometric="minisblack", planarconfig="contig")
    assert not holds_bands(tmp_path / "a.tif", 5)
    assert input_names((*CHANNELS, "swir"), [str(tmp_path / "a.tif")]) == (*CHANNELS, "swir")


def test_a_damaged_tiff_has_no_bands_and_says_nothing(tmp_path, caplog):
    imwrite(tmp_path / "a.tif", LAST, photometric="minisblack", planarconfig="contig")
    whole = (tmp_path / "a.tif").read_bytes()
    for damaged in (whole[:100], whole[:94] + b"\xff" * 12 + whole[106:]):
        (tmp_path / "b.tif").write_bytes(damaged)
        assert not holds_bands(tmp_path / "b.tif", 4)
        with pytest.raises(SegxaiError, match="b.tif cannot be read as a TIFF of bands|1 bands"):
            load_bands(tmp_path / "b.tif", CHANNELS, PICTURE)
    assert not caplog.records


def test_a_fourth_band_that_a_network_of_colours_does_not_take_is_said(tmp_path):
    four = LAST.astype(np.uint8)
    imwrite(tmp_path / "more.tif", four, photometric="rgb", extrasamples=["unspecified"])
    with pytest.warns(SegxaiWarning, match="more.tif has more than three bands: the first three"):
        found = load_picture(tmp_path / "more.tif", PICTURE)
    np.testing.assert_array_equal(found.pixels, np.moveaxis(four[..., :3], -1, 0))
    imwrite(tmp_path / "alpha.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.warns(SegxaiWarning, match="last band of alpha.tif is marked as transparency, so"):
        load_picture(tmp_path / "alpha.tif", PICTURE)
    Image.fromarray(four, "RGBA").save(tmp_path / "a.png")  # a PNG's fourth is transparency
    assert load_picture(tmp_path / "a.png", PICTURE).notes


def test_bands_are_counted_before_they_are_read(tmp_path):
    KINDS["pages.tif"](tmp_path / "pages.tif")
    KINDS["first.npy"](tmp_path / "first.npy")
    for name in ("pages.tif", "first.npy"):
        with (
            at_most(100),
            pytest.raises(SegxaiError, match="4 x 6 x 5 = 120 voxels, and at most"),
        ):
            load_bands(tmp_path / name, CHANNELS, PICTURE)
