"""Checks of places: windows that do not add up and cases that lie elsewhere are caught."""

from dataclasses import replace

import numpy as np
import pytest

from segxai import Grid, Predictor, SlidingWindow, whole_image
from segxai.load.resampling import resample, working_grid
from tests.testing.checks import (
    INPUT,
    PLACES,
    REFERENCE,
    WINDOWS,
    broken,
    findings,
    raise_error,
    with_network,
)
from tests.toy.segxai_toy import TOY, Toy, bare_case, load_case, picture

# ------------------------------------------------------------------------------------------ windows


def test_a_window_larger_than_the_case_is_padded():
    sizes = []

    def look(network, forward, image):
        sizes.append(tuple(image.shape[2:]))
        return forward(image)

    # Without a layer, whose layout is found by a trial at another size.
    adapter = replace(with_network(look), predict=SlidingWindow((24, 16, 16)), layer=None)
    assert broken(adapter) == {}
    assert set(sizes) == {(24, 16, 16)}


def test_windows_are_counted():
    found = findings(replace(TOY, predict=SlidingWindow((12, 12, 12))))
    assert found[WINDOWS].detail == "8 of 12 x 12 x 12 voxels"


def with_shares(scale):
    def build(network, case, criteria):
        layout = whole_image(case.grid.shape)
        return Predictor(network, replace(layout, importance=scale * layout.importance))

    return replace(TOY, predict=build)


def test_shares_that_do_not_sum_to_one_are_caught():
    assert broken(with_shares(1.0)) == {}
    assert findings(with_shares(1.0))[INPUT].detail == "through the adapter's own predictor"
    assert broken(with_shares(0.5))[WINDOWS] == (
        "the shares of the windows in a voxel sum to 0.5 to 0.5, not to 1"
    )


# ------------------------------------------------------------------------------------------- places


def moved(change):
    """The toy with cases that are changed when they are loaded."""
    return replace(TOY, load_case=lambda files: change(load_case(files)))


def elsewhere(case, *, factor=1.0, shift=0.0):
    """The case with another affine on its grid, and the file's own as source_grid."""
    affine = case.grid.affine * np.array([1, 1, factor, 1]) + np.eye(4)[:, :1] * [0, 0, 0, shift]
    return replace(case, grid=Grid(case.grid.shape, affine), source_grid=case.grid)


ELSEWHERE = "lies elsewhere in its case"
MISPLACED = {
    "flipped": (lambda case: replace(case, image=case.image[:, ::-1].copy()), ELSEWHERE),
    "flipped in the last axis": (
        lambda case: replace(case, image=case.image[..., ::-1].copy()),
        ELSEWHERE,
    ),
    "one channel flipped": (
        lambda case: replace(case, image=np.stack([case.image[0], case.image[1, ::-1]])),
        "channel other: what a file shows",
    ),
    "stretched": (lambda case: elsewhere(case, factor=1.3), ELSEWHERE),
    "shifted by two voxels": (lambda case: elsewhere(case, shift=2.0), ELSEWHERE),
    "rolled by a voxel": (
        lambda case: replace(case, image=np.roll(case.image, 1, axis=1)),
        ELSEWHERE,
    ),
    "empty": (lambda case: replace(case, image=0 * case.image), "(correlation 0.00)"),
    "another source": (
        lambda case: replace(case, source_grid=Grid.unit(case.grid.shape)),
        "source_grid is not the file's: source_grid (20 x 18 x 16 voxels of 1 mm, RAS) lies up to",
    ),
}


@pytest.mark.parametrize(("change", "words"), MISPLACED.values(), ids=MISPLACED)
def test_a_case_that_lies_elsewhere_than_its_file_is_caught(change, words):
    wrong = broken(moved(change))
    assert next(iter(wrong)) == PLACES
    assert set(wrong) <= {PLACES, REFERENCE}
    assert words in wrong[PLACES]


def test_a_case_on_another_grid_with_its_own_affine_is_fine():
    def resampled(case):
        grid = working_grid(case.grid, 1.3)
        image = resample(case.image, case.grid, grid, order=1)
        everywhere = np.ones(grid.shape, bool)
        kept = {"source_grid": case.grid, "foreground": everywhere}
        return replace(case, image=100 - 3 * image, grid=grid, **kept)

    (wrong,) = broken(moved(resampled)).values()  # a negative never was an intensity
    assert "(correlation -1.00)" in wrong
    assert broken(moved(lambda case: replace(resampled(case), image=-resampled(case).image))) == {}


def test_a_reader_of_other_files_is_left_alone():
    found = findings(replace(TOY, load_case=raise_error))
    assert found[PLACES].holds
    assert found[PLACES].detail == ("skipped, load_case takes no made-up file: KeyError: 'weights'")


@pytest.mark.parametrize("flip", [1, -1])
def test_a_reader_of_pictures_is_tried_on_pictures(flip):
    def read(files):
        from PIL import Image

        planes = [np.asarray(Image.open(files[name]), np.float32)[::flip] for name in files]
        return bare_case(np.stack(planes))

    adapter = replace(
        TOY,
        load_network=lambda: Toy(axes=2),
        embedded_case=lambda: bare_case(picture((20, 18))),
        load_case=read,
    )
    finding = findings(adapter)[PLACES]
    assert finding.holds == (flip == 1)
    assert finding.detail.startswith("a made-up picture of 20 x 18" if flip == 1 else "channel br")
