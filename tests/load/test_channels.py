"""Channels: which volumes make a case, on one grid, and plain words where they do not."""

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.geometry import Grid
from segxai.load.channels import check_same_grid, check_varies, load_volumes
from segxai.load.normalisation import find_normalisation
from segxai.load.reader import Reader, read_case
from segxai.load.volumes import Volume, load_volume, volumes_in
from segxai.store import hdf5
from segxai.store.schema import provenance_of
from segxai.types import Source
from tests.commandline import assert_same, make_case, maps_of, segxai, snapshot, write_nifti
from tests.grids import SHAPE, TILT, noise, oriented
from tests.toy.segxai_toy import picture

NAMES = ("flair", "t1", "t1ce", "t2")


def volume(data: Float[np.ndarray, "x y z"], grid: Grid | None = None) -> Volume:
    """A volume without a file."""
    return Volume(data, grid or Grid.unit(data.shape), Source("FLAIR", "a.nii.gz", "0"))


def message(error: pytest.ExceptionInfo[SegxaiError]) -> str:
    """The error's text, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------ one file for all


@pytest.mark.parametrize("shape", [(*SHAPE, 4), (*SHAPE, 1, 4)])
def test_the_volumes_of_a_4d_file_are_the_channels_in_order(tmp_path, shape):
    data, grid = noise((*SHAPE, 4)), oriented("LPS", spacing=(1, 1, 2))
    path = write_nifti(tmp_path / "four.nii.gz", data.reshape(shape), grid.affine)
    assert volumes_in(path) == 4
    files = dict.fromkeys(NAMES, path)
    with pytest.warns(SegxaiWarning, match="in four.nii.gz are taken as flair, t1, t1ce, t2, in"):
        found = load_volumes(files, NAMES)
    for n, one in enumerate(found):
        np.testing.assert_array_equal(one.data, data[..., n])
        np.testing.assert_allclose(one.grid.affine, grid.affine)
        assert (one.source.role, one.source.name) == (NAMES[n], "four.nii.gz")


def test_a_4d_file_of_another_number_of_volumes_is_refused(tmp_path):
    path = write_nifti(tmp_path / "three.nii.gz", noise((*SHAPE, 3)))
    wrong = "flair, t1 file three.nii.gz holds 3 volumes for 2 channels"
    with pytest.warns(SegxaiWarning), pytest.raises(SegxaiError, match=wrong):
        load_volumes(dict.fromkeys(NAMES[:2], path), NAMES[:2])
    with pytest.raises(SegxaiError, match="5 x 6 x 7 x 3 voxels, which is not a 3D volume"):
        load_volume(path, "flair")


def test_one_3d_file_may_be_given_for_each_channel(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", noise())
    one, two = load_volumes(dict.fromkeys(NAMES[:2], path), NAMES[:2])
    np.testing.assert_array_equal(one.data, two.data)


@pytest.mark.usefixtures("toys")
@pytest.mark.filterwarnings("always:the volumes in both.nii.gz")
def test_a_4d_file_on_the_command_line_gives_the_maps_of_two_files(folder):
    make_case(folder)
    write_nifti("both.nii.gz", np.moveaxis(picture(), 0, -1))
    command = ["run", "--plugin", "toy", "--method", "gradient", "--labels", "2", "--out"]
    assert segxai(*command, "two.h5", "bright.nii.gz", "other.nii.gz").status == 0
    done = segxai(*command, "one.h5", "both.nii.gz")
    assert done.status == 0, done.err
    words = "the volumes in both.nii.gz are taken as bright, other, in this order"
    assert done.err.count(f"warning: {words}") == 1
    assert_same(maps_of(snapshot(Path("one.h5"))), maps_of(snapshot(Path("two.h5"))))
    with hdf5.open_result("one.h5") as tree:
        stored = provenance_of(tree.to_dataset())["case"]
    assert stored["warnings"] == [words]
    assert [one["role"] for one in stored["sources"]] == ["bright", "other"]
    assert segxai("rerun", "one.h5").status == 0


@pytest.mark.usefixtures("toys")
def test_one_file_for_two_channels_must_hold_two(folder):
    write_nifti("three.nii.gz", noise((*SHAPE, 3)))
    write_nifti("a.nii.gz", noise())
    command = ["run", "--plugin", "toy"]
    wrong = "1 image (three.nii.gz holds 3 volumes) for 2 channels; give one file for each of"
    assert segxai(*command, "three.nii.gz").error.startswith(wrong)
    assert segxai(*command, "a.nii.gz").error.startswith("1 image for 2 channels; give one file")


# -------------------------------------------------------------------------------------- one grid


def test_files_that_differ_by_rounding_lie_on_the_first_grid(tmp_path):
    grid = oriented("LPS", spacing=(0.8, 0.8, 0.8))
    off = grid.affine.copy()
    off[:3, 3] += 0.002
    flair, t1 = noise(), noise() ** 2
    same = write_nifti(tmp_path / "same.nii.gz", t1, grid.affine)
    files = {"flair": write_nifti(tmp_path / "flair.nii.gz", flair, grid.affine), "t1": same}
    reader = Reader(NAMES[:2], find_normalisation("none", 2), spacing_mm=1.0)
    wanted = read_case(reader.read, files)
    files["t1"] = write_nifti(tmp_path / "t1.nii.gz", t1, off)
    with pytest.warns(
        SegxaiWarning, match="t1 file t1.nii.gz lies up to 0.0035 mm away from flair"
    ):
        found = read_case(reader.read, files)
    np.testing.assert_array_equal(found.image, wanted.image)
    assert found.warnings == (
        "t1 file t1.nii.gz lies up to 0.0035 mm away from flair file flair.nii.gz, less than a "
        "tenth of a voxel: taken as rounding in its header, on the same grid",
    )
    assert wanted.warnings == ()


def test_equal_grids_pass_up_to_rounding() -> None:
    grid = oriented("LAS")
    moved = Grid(grid.shape, grid.affine + 1e-5)
    check_same_grid(volume(noise(), grid), ("MPRAGE", grid), ("reference", moved))


@pytest.mark.parametrize(("axis", "most"), [(0, 0.08), (2, 0.3)])
def test_less_than_a_tenth_of_a_voxel_is_rounding_and_said(axis: int, most: float) -> None:
    grid = oriented("RAS", spacing=(0.8, 0.8, 3), turn=TILT)
    for share in (0.02, 0.98):
        with pytest.warns(
            SegxaiWarning, match=r"MPRAGE lies up to [\d.]+ mm away from FLAIR, less"
        ):
            check_same_grid(("FLAIR", grid), ("MPRAGE", shifted(grid, axis, most * share)))
    with pytest.raises(SegxaiError, match="mm away from FLAIR"):
        check_same_grid(("FLAIR", grid), ("MPRAGE", shifted(grid, axis, most * 1.02)))


def test_a_turn_counts_at_the_corners() -> None:
    grid = oriented("RAS", (101, 101, 5))
    for angle, is_rounding in ((0.0009, True), (0.0011, False)):
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        first_voxel = np.eye(4)
        first_voxel[:3, 3] = grid.affine[:3, 3]
        turned = Grid(grid.shape, first_voxel @ turn @ np.linalg.inv(first_voxel) @ grid.affine)
        outcome = pytest.warns(SegxaiWarning, match="up to 0.13 mm away")
        if not is_rounding:
            outcome = pytest.raises(SegxaiError, match="up to 0.156 mm away")
        with outcome:
            check_same_grid(("FLAIR", grid), ("MPRAGE", turned))


def shifted(grid: Grid, axis: int, mm: float) -> Grid:
    """A grid moved along one of its axes."""
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, axis] / np.linalg.norm(affine[:3, axis]) * mm
    return Grid(grid.shape, affine)


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
