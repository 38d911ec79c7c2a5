"""Reading files and moving arrays between grids: exact where it can be, plain about mistakes."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Shaped
from nibabel.gifti.gifti import GiftiImage
from scipy.spatial.transform import Rotation

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import describe_change, resample, working_grid
from segxai.load.volumes import (
    Volume,
    check_same_grid,
    check_varies,
    file_sha256,
    load_labels,
    load_volume,
    save_volume,
)
from segxai.types import Source

SHAPE = (5, 6, 7)
TOWARDS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0)}
TOWARDS |= {"S": (0, 0, 1), "I": (0, 0, -1)}
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]
TILT = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()


def oriented(
    codes: str,
    shape: tuple[int, ...] = SHAPE,
    spacing: tuple[float, ...] = (1, 1, 1),
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Grid:
    """A grid whose voxel axes point towards `codes`, up to a turn."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([TOWARDS[code] for code in codes], dtype=float).T * spacing
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 12.25, 7)
    return Grid(shape, affine)


def positions(grid: Grid) -> Float[np.ndarray, "x y z 3"]:
    """Where each voxel of a grid lies, in mm."""
    return grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))


def noise(shape: tuple[int, ...] = SHAPE) -> Float[np.ndarray, "*shape"]:
    """A made-up image without zeros."""
    return np.random.default_rng(0).uniform(1, 200, shape).astype(np.float32)


def written(
    folder: Path,
    data: Shaped[np.ndarray, "*shape"],
    affine: Shaped[np.ndarray, "4 4"] | None = None,
    name: str = "image.nii.gz",
) -> Path:
    """The path of a new NIfTI file."""
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), folder / name)
    return folder / name


def volume(data: Float[np.ndarray, "x y z"], grid: Grid | None = None) -> Volume:
    """A volume without a file."""
    return Volume(data, grid or Grid.unit(data.shape), Source("FLAIR", "a.nii.gz", "0"))


def message(error: pytest.ExceptionInfo[SegxaiError]) -> str:
    """The error's text, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------ files


def test_a_scaled_integer_file_is_read_as_float32(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([2, 3, 4, 1]))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "scaled.nii")
    loaded = load_volume(tmp_path / "scaled.nii", "FLAIR")
    assert loaded.data.dtype == np.float32
    assert loaded.grid.shape == loaded.data.shape == (2, 3, 4)
    assert loaded.grid.spacing == (2, 3, 4)
    expected = nib.Nifti1Image.from_filename(tmp_path / "scaled.nii").get_fdata()
    np.testing.assert_allclose(loaded.data, expected, rtol=1e-6)


def test_the_source_has_the_file_name_without_its_folders(tmp_path: Path) -> None:
    path = written(tmp_path, noise())
    source = load_volume(str(path), "FLAIR").source
    assert source == Source("FLAIR", "image.nii.gz", file_sha256(path))


def test_file_sha256_is_the_known_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_fourth_axis_of_length_1_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, noise()[..., None])
    np.testing.assert_array_equal(load_volume(path, "FLAIR").data, noise())


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    written(tmp_path, noise(), name="sub-01_flair.nii.gz")
    with pytest.raises(
        SegxaiError,
        match=r"FLAIR file .*sub-01_FLAIR.nii.gz not found; did you mean 'sub-01_flair.nii.gz'",
    ):
        load_volume(tmp_path / "sub-01_FLAIR.nii.gz", "FLAIR")
    with pytest.raises(SegxaiError, match=r"no name in its folder is similar"):
        load_volume(tmp_path / "zzz", "FLAIR")
    with pytest.raises(SegxaiError, match=r"there is no folder .*nowhere"):
        load_volume(tmp_path / "nowhere" / "flair.nii.gz", "FLAIR")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"is a folder; give the image file in it"):
        load_volume(tmp_path, "FLAIR")


@pytest.mark.parametrize("kept", [0, 20, 200, 0.5, 0.98])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_file_cannot_be_read(tmp_path: Path, ending: str, kept: float) -> None:
    path = written(tmp_path, noise((20, 20, 20)), name="cut" + ending)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(SegxaiError, match=r"FLAIR file cut.nii.* cannot be read as an image") as e:
        load_volume(path, "FLAIR")
    assert "copy it again" in message(e)


def test_a_corrupt_gzip_cannot_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, noise((20, 20, 20)))
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(SegxaiError, match=r"cannot be read as an image"):
        load_volume(path, "FLAIR")
    path.write_bytes(gzip.compress(b"no image"))
    with pytest.raises(SegxaiError, match=r"cannot be read as an image"):
        load_volume(path, "FLAIR")


@pytest.mark.parametrize("name", ["notes.txt", "picture.png", "noending", "fake.nii"])
def test_other_files_are_not_images(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n" + b"words, no image. " * 50)
    with pytest.raises(SegxaiError, match=f"FLAIR file {name} cannot be read as an image"):
        load_volume(tmp_path / name, "FLAIR")


def test_a_surface_is_not_a_volume(tmp_path: Path) -> None:
    nib.save(GiftiImage(), tmp_path / "surface.gii")
    with pytest.raises(SegxaiError, match=r"surface.gii holds no volume"):
        load_volume(tmp_path / "surface.gii", "FLAIR")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 8, 3), (8, 8, 8, 1, 3)])
def test_only_three_axes_are_a_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = written(tmp_path, noise(shape))
    with pytest.raises(SegxaiError, match=r"image.nii.gz has 8 x 8.* voxels, which is not a 3D"):
        load_volume(path, "FLAIR")


@pytest.mark.parametrize("column", [(0, 0, 0), (2, 0, 0), (np.nan, 0, 1)])
def test_a_singular_affine_is_refused(tmp_path: Path, column: tuple[float, ...]) -> None:
    path = written(tmp_path, noise(), name="image.nii")
    header = nib.Nifti1Image.from_filename(path).header.copy()
    for row, value in zip(("srow_x", "srow_y", "srow_z"), column, strict=True):
        header[row][1] = value
    with path.open("r+b") as stream:
        stream.write(header.binaryblock)
    with pytest.raises(SegxaiError, match=r"unusable affine"):
        load_volume(path, "FLAIR")


def test_voxels_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    data = noise().astype(np.float64)
    data[0, 0, :3] = np.nan, np.inf, 1e300  # the last is too large for float32
    with pytest.raises(SegxaiError, match=r"3 of 210 voxels that are NaN or infinite; set them to"):
        load_volume(written(tmp_path, data), "FLAIR")


def test_complex_and_colour_images_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, noise().astype(np.complex64))
    with pytest.raises(SegxaiError, match=r"holds complex64 instead of real"):
        load_volume(path, "FLAIR")
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(SegxaiError, match=r"holds colours instead of real"):
        load_volume(written(tmp_path, colours), "FLAIR")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_come_as_integers(tmp_path: Path, kind: type) -> None:
    labels = np.random.default_rng(0).integers(0, 9, SHAPE)
    path = written(tmp_path, labels.astype(kind), np.diag([1, 2, 3, 1]))
    loaded, grid, source = load_labels(path, "reference")
    np.testing.assert_array_equal(loaded, labels)
    assert loaded.dtype == np.int32
    assert grid.spacing == (1, 2, 3)
    assert (source.role, source.name) == ("reference", "image.nii.gz")


def test_labels_survive_the_rounding_of_a_scaled_file(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full(SHAPE, 255, dtype=np.uint8), np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, tmp_path / "mask.nii")
    assert set(load_labels(tmp_path / "mask.nii", "reference")[0].flat) == {1}


@pytest.mark.parametrize("value", [0.5, -1, 1e30])
def test_values_that_are_no_labels_are_named(tmp_path: Path, value: float) -> None:
    data = np.ones(SHAPE)
    data[1, 2, 3] = value
    path = written(tmp_path, data)
    with pytest.raises(
        SegxaiError, match=r"not a mask: 1 voxels .*is \S+ at voxel \(1, 2, 3\)"
    ) as e:
        load_labels(path, "reference")
    assert f"{value:g}" in message(e)


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"reference file image.nii.gz is empty"):
        load_labels(written(tmp_path, np.zeros(SHAPE)), "reference")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_a_saved_volume_comes_back(tmp_path: Path, kind: type) -> None:
    grid = oriented("LPS", spacing=(1, 1.5, 3), turn=TILT)
    data: Shaped[np.ndarray, "x y z"] = (noise() > 90).astype(kind)
    save_volume(tmp_path / "a.nii.gz", data, grid)
    image = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz")
    assert image.get_data_dtype().itemsize <= 4
    np.testing.assert_array_equal(np.asarray(image.dataobj), data)
    for form in (image.get_sform(), image.get_qform()):
        np.testing.assert_allclose(form, grid.affine, atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)


def test_a_volume_is_saved_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_volume(tmp_path / name / "map.nii.gz", noise(), Grid.unit(SHAPE))
    assert file_sha256(tmp_path / "a/map.nii.gz") == file_sha256(tmp_path / "b/map.nii.gz")


def test_a_volume_is_not_saved_under_another_ending_or_nowhere(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"end the name in .nii.gz"):
        save_volume(tmp_path / "a.png", noise(), Grid.unit(SHAPE))
    with pytest.raises(SegxaiError, match=r"cannot write .*No such file"):
        save_volume(tmp_path / "nowhere" / "a.nii.gz", noise(), Grid.unit(SHAPE))


# ----------------------------------------------------------------------------------------- checks


def test_equal_grids_pass_up_to_rounding() -> None:
    grid = oriented("LAS")
    moved = Grid(grid.shape, grid.affine + 1e-5)
    check_same_grid(volume(noise(), grid), ("MPRAGE", grid), ("reference", moved))


def test_other_shapes_are_named_with_their_spacing() -> None:
    other = oriented("LAS", (9, 6, 7), (0.7, 1, 3))
    with pytest.raises(
        SegxaiError,
        match=r"FLAIR file a.nii.gz is 5 x 6 x 7 voxels of 1 mm, RAS, "
        "but MPRAGE is 9 x 6 x 7 voxels of 0.7 x 1 x 3 mm, LAS",
    ) as e:
        check_same_grid(volume(noise(), oriented("RAS")), ("MPRAGE", other))
    assert "register and resample" in message(e)


def test_a_shift_is_given_in_mm() -> None:
    grid = oriented("RAS")
    affine = grid.affine.copy()
    affine[0, 3] += 2.5
    with pytest.raises(SegxaiError, match=r"MPRAGE .* lies up to 2.5 mm away from FLAIR") as e:
        check_same_grid(("FLAIR", grid), ("MPRAGE", Grid(grid.shape, affine)))
    assert "elastix" in message(e)


@pytest.mark.parametrize("value", [0, 7])
def test_a_channel_must_vary(value: float) -> None:
    with pytest.raises(SegxaiError, match=f"FLAIR file a.nii.gz has the same value {value} in"):
        check_varies(volume(np.full(SHAPE, value, dtype=np.float32)))
    check_varies(volume(noise()))


# ------------------------------------------------------------------------------------------ grids


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
    with pytest.raises(
        SegxaiError, match=r"5 x 6 x 7 voxels of .* too many to hold; check the voxel"
    ):
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
