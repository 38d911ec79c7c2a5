"""Reading and writing volumes: what comes out, what is checked, and plain words about mistakes."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from jaxtyping import Float, Shaped
from nibabel.gifti.gifti import GiftiImage

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.volumes import (
    Volume,
    file_sha256,
    load_labels,
    load_volume,
)
from segxai.report.nifti import save_volume
from segxai.types import Source
from tests.commandline import write_nifti
from tests.grids import SHAPE, TILT, noise, oriented


def written(
    folder: Path,
    data: Shaped[np.ndarray, "*shape"],
    affine: Shaped[np.ndarray, "4 4"] | None = None,
    name: str = "image.nii.gz",
) -> Path:
    """The path of a new NIfTI file."""
    return write_nifti(folder / name, data, affine)


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
        match=r"sub-01_FLAIR.nii.gz not found.* 'sub-01_flair.nii.gz'",
    ):
        load_volume(tmp_path / "sub-01_FLAIR.nii.gz", "FLAIR")
    with pytest.raises(SegxaiError, match=r"no name in its folder is similar"):
        load_volume(tmp_path / "zzz", "FLAIR")
    with pytest.raises(SegxaiError, match=r"there is no folder .*nowhere"):
        load_volume(tmp_path / "nowhere" / "flair.nii.gz", "FLAIR")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"is a folder"):
        load_volume(tmp_path, "FLAIR")


@pytest.mark.parametrize("kept", [0, 20, 200, 0.5, 0.98])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_file_cannot_be_read(tmp_path: Path, ending: str, kept: float) -> None:
    path = written(tmp_path, noise((20, 20, 20)), name="cut" + ending)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(SegxaiError, match=r"FLAIR file cut.nii") as e:
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
    with pytest.raises(SegxaiError, match=f"FLAIR file {name} cannot be read"):
        load_volume(tmp_path / name, "FLAIR")


def test_a_surface_is_not_a_volume(tmp_path: Path) -> None:
    nib.save(GiftiImage(), tmp_path / "surface.gii")
    with pytest.raises(SegxaiError, match=r"surface.gii holds no volume"):
        load_volume(tmp_path / "surface.gii", "FLAIR")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 8, 3), (8, 8, 8, 1, 3)])
def test_only_three_axes_are_a_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = written(tmp_path, noise(shape))
    with pytest.raises(SegxaiError, match=r"image.nii.gz has 8 x 8.* 3D"):
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
    with pytest.raises(SegxaiError, match=r"3 of 210 voxels"):
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


@pytest.mark.parametrize("value", [0.5, 0.3, 1.001, -1, 1e30])
def test_values_that_are_no_labels_are_named(tmp_path: Path, value: float) -> None:
    data = np.ones(SHAPE)
    data[1, 2, 3] = value
    path = written(tmp_path, data)
    with pytest.raises(SegxaiError, match=r"not a mask.* \(1, 2, 3\)") as e:
        load_labels(path, "reference")
    assert f"{value:g}" in message(e)


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"mask file image.nii.gz is empty"):
        load_labels(written(tmp_path, np.zeros(SHAPE)), "mask")


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
    assert image.header.get_xyzt_units()[0] == "mm"


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
