"""Moving arrays between grids: exact where it can be, and told in a sentence."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import describe_change, resample, working_grid
from tests.grids import SHAPE, TILT, noise, oriented, positions

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("turn", [None, TILT], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_goes_there_and_back_exactly(
    codes: str, turn: Float[np.ndarray, "3 3"] | None
) -> None:
    source, data = oriented(codes, spacing=(0.995, 1, 1.009), turn=turn), noise()
    target = working_grid(source)
    moved = resample(data, source, target, order=1)
    assert "".join(nib.aff2axcodes(target.affine)) == "RAS"
    assert moved.flags.c_contiguous
    # The same value lies at the same place in mm.
    place = dict(zip(map(tuple, positions(source).reshape(-1, 3).round(3)), data.flat, strict=True))
    there = map(tuple, positions(target).reshape(-1, 3).round(3))
    assert [place[mm] for mm in there] == list(moved.flat)
    np.testing.assert_array_equal(resample(moved, target, source, order=0), data)


def test_a_grid_that_is_right_is_not_touched() -> None:
    grid = oriented("RAS")
    target = working_grid(grid)
    assert target.shape == grid.shape
    np.testing.assert_allclose(target.affine, grid.affine)
    moved = resample(noise(), grid, target, order=1)
    np.testing.assert_array_equal(moved, noise())


def test_leading_axes_are_kept() -> None:
    data, source = noise((2, 3, *SHAPE)), oriented("PIR", spacing=(1, 2, 1))
    for target in (working_grid(source), working_grid(source, 1.7)):
        moved = resample(data, source, target, order=1)
        assert moved.shape == (2, 3, *target.shape)
        np.testing.assert_array_equal(moved[1, 2], resample(data[1, 2], source, target, order=1))


# Grids are built inside the tests: the run-time type checker draws random numbers, which
# Hypothesis forbids inside of strategies.
layouts = st.tuples(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(6, 14)] * 3),
    st.tuples(*[st.floats(0.7, 4)] * 3),
    st.tuples(*[st.floats(-20, 20)] * 3),
)
Layout = tuple[str, tuple[int, ...], tuple[float, ...], tuple[float, ...]]


def laid_out(layout: Layout) -> Grid:
    """A grid of some orientation, shape, spacing and tilt."""
    codes, shape, spacing, angles = layout
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return oriented(codes, shape, spacing, turn)


@given(layouts)
@settings(max_examples=60, deadline=None)
def test_the_working_grid_covers_the_field_of_view_and_no_more(layout: Layout) -> None:
    source = laid_out(layout)
    target = working_grid(source)
    np.testing.assert_allclose(target.spacing, 1, rtol=0.0101)
    inverse = np.linalg.inv(target.affine)
    edges = np.array(list(itertools.product(*[(-0.5, size - 0.5) for size in source.shape])))
    voxels = source.to_mm(edges) @ inverse[:3, :3].T + inverse[:3, 3]
    overhang = voxels.min(axis=0) + 0.5, np.array(target.shape) - 0.5 - voxels.max(axis=0)
    np.testing.assert_allclose(*overhang, atol=1e-6)  # centred
    assert np.all(overhang[0] > -1e-2)
    assert np.all(overhang[0] < 0.5)


@given(layouts)
@settings(max_examples=40, deadline=None)
def test_linear_resampling_keeps_a_ramp_in_mm(layout: Layout) -> None:
    source = laid_out(layout)
    slope = np.array([2.0, -3.0, 1.5])
    target = working_grid(source)
    data = (positions(source) @ slope + 500).astype(np.float32)
    moved = resample(data, source, target, order=1)
    inner = (slice(3, -3),) * 3  # away from the border, where values are held
    expected = positions(target) @ slope + 500
    np.testing.assert_allclose(moved[inner], expected[inner], atol=0.02)
    assert np.all(moved != 0)


@given(layouts, st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_flipped_file_gives_the_same_image(layout: Layout, axis: int) -> None:
    source = laid_out(layout)
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (source.shape[axis] - 1)
    affine[:3, axis] *= -1
    flipped = Grid(source.shape, affine)
    data, target = noise(source.shape), working_grid(source)
    np.testing.assert_allclose(working_grid(flipped).affine, target.affine, atol=1e-9)
    np.testing.assert_allclose(
        resample(np.flip(data, axis), flipped, target, order=1),
        resample(data, source, target, order=1),
        atol=1e-2,
    )


def test_a_smooth_blob_survives_the_way_through_an_anisotropic_grid() -> None:
    source = oriented("LIP", (40, 24, 44), (0.9, 1.4, 0.8), TILT)
    centre = source.to_mm(np.array([19.0, 12.0, 22.0]))
    blob = np.exp(-(((positions(source) - centre) / 6) ** 2).sum(axis=-1) / 2).astype(np.float32)
    target = working_grid(source)
    there = resample(blob, source, target, order=1)
    expected = np.exp(-(((positions(target) - centre) / 6) ** 2).sum(axis=-1) / 2)
    np.testing.assert_allclose(there, expected, atol=0.02)
    np.testing.assert_allclose(resample(there, target, source, order=1), blob, atol=0.03)


def test_labels_stay_labels_and_keep_their_place() -> None:
    source = oriented("LIP", (30, 20, 33), (1, 2.2, 0.7), TILT)
    labels = np.zeros(source.shape, dtype=np.int32)
    labels[4:18, 3:12, 5:25] = 300
    labels[20:28, 5:15, 5:25] = 7
    target = working_grid(source)
    moved = resample(labels, source, target, order=0)
    assert moved.dtype == np.int32
    assert set(moved.flat) == {0, 7, 300}
    for label in (7, 300):
        before, after = positions(source)[labels == label], positions(target)[moved == label]
        np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=0.3)
        volumes = len(before) * source.voxel_volume_mm3, len(after) * target.voxel_volume_mm3
        assert volumes[1] == pytest.approx(volumes[0], rel=0.05)
    mask = resample(labels > 0, source, target, order=0)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, moved > 0)


def test_border_voxels_are_never_lost_to_rounding() -> None:
    source = oriented("RAS", (6, 6, 6), (3, 3, 3), TILT)
    target = working_grid(source)
    assert target.shape == (18, 18, 18)
    for order in (0, 1):
        moved = resample(np.ones((6, 6, 6)), source, target, order=order)
        np.testing.assert_allclose(moved, 1)


def test_outside_of_the_field_of_view_is_0() -> None:
    source = oriented("RAS", (4, 4, 4))
    affine = source.affine.copy()
    affine[0, 3] += 2
    shifted = resample(noise((4, 4, 4)), source, Grid((4, 4, 4), affine), order=1)
    np.testing.assert_array_equal(shifted[:2], noise((4, 4, 4))[2:])
    assert not shifted[2:].any()


@pytest.mark.parametrize("codes", ["SAR", "ASR", "RIP"])
def test_detail_is_smoothed_along_the_axis_that_becomes_coarser(codes: str) -> None:
    """A Gaussian of (g - 1) / 2 voxels along it, where steps grow g times; others are as finely."""
    fine = codes.translate(str.maketrans("I", "S")).index("S")
    shape = tuple(30 if axis == fine else 6 + axis for axis in range(3))
    source = oriented(codes, shape, tuple(0.4 if axis == fine else 1.0 for axis in range(3)))
    data = noise(shape).astype(np.float64)
    growth, reach = 1 / 0.4, np.arange(-3, 4)
    weights = np.exp(-((reach / ((growth - 1) / 2)) ** 2) / 2)
    lines = np.moveaxis(data, fine, -1)
    padded = np.pad(lines, [(0, 0), (0, 0), (3, 3)], mode="edge")
    smooth = sum(w * padded[..., n : n + 30] for n, w in enumerate(weights / weights.sum()))
    places = (30 - 1) / 2 + growth * (np.arange(12) - (12 - 1) / 2)
    wanted = np.empty((*smooth.shape[:2], 12))
    for line in np.ndindex(smooth.shape[:2]):
        wanted[line] = np.interp(places, np.arange(30), smooth[line])
    rest = [code for axis, code in enumerate(codes) if axis != fine]
    if rest[0] in "AP":  # lines lie as (A, R): the image is (R, A, S)
        wanted, rest = wanted.swapaxes(0, 1), rest[::-1]
    wanted = wanted[:, ::-1] if rest[1] == "P" else wanted
    wanted = wanted[..., ::-1] if "I" in codes else wanted
    found = resample(data, source, working_grid(source), order=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_coarse_grid_does_not_alias() -> None:
    source = oriented("RAS", (40, 4, 4), (0.25, 1, 1))
    stripes = np.zeros(source.shape, dtype=np.float32)
    stripes[::2] = 1
    moved = resample(stripes, source, working_grid(source), order=1)
    np.testing.assert_allclose(moved[2:-2], 0.5, atol=0.02)


def test_pictures_have_grids_too() -> None:
    coarse = Grid((3, 2), np.diag([2.0, 2.0, 1.0]))
    fine = Grid((6, 4), np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]]))
    data = np.arange(6.0).reshape(3, 2)
    moved = resample(data, coarse, fine, order=0)
    np.testing.assert_array_equal(moved, data.repeat(2, axis=0).repeat(2, axis=1))


def test_a_wild_voxel_size_is_refused() -> None:
    with pytest.raises(SegxaiError, match=r"5 x 6 x 7 voxels of .* too many"):
        working_grid(oriented("RAS", spacing=(1e4, 1e4, 1e4)))


@pytest.mark.parametrize(("order", "shape"), [(3, SHAPE), (1, (5, 6))])
def test_misuse_of_resample_is_a_bug_of_the_caller(order: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"order \d, data of shape"):
        resample(noise(shape), Grid.unit(SHAPE), Grid.unit(SHAPE), order=order)


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        (oriented("RAS"), oriented("RAS"), None),
        (oriented("LAS"), working_grid(oriented("LAS")), "reoriented LAS -> RAS"),
        (
            oriented("LAS", spacing=(0.7, 0.7, 3)),
            working_grid(oriented("LAS", spacing=(0.7, 0.7, 3))),
            "reoriented LAS -> RAS; resampled 0.7 x 0.7 x 3 mm -> 1 mm (linear)",
        ),
        (
            oriented("RAS"),
            oriented("RAS", turn=TILT),
            "resampled onto another grid of 1 mm (linear)",
        ),
    ],
)
def test_a_change_is_told_in_one_sentence(source: Grid, target: Grid, sentence: str | None) -> None:
    assert describe_change(source, target) == sentence
