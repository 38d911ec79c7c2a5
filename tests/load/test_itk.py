"""NRRD, MetaImage and DICOM series: the same numbers in the same place as in NIfTI."""

import locale
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segxai.errors import SegxaiError
from segxai.load.channels import check_same_grid
from segxai.load.volumes import file_sha256, load_labels, load_volume
from tests.commandline import make_case, segxai, use_toys, write_nifti
from tests.grids import noise
from tests.toy.segxai_toy import picture

itk = pytest.importorskip("SimpleITK", reason="the extra 'itk' is not installed")

SHAPE = (5, 7, 4)
LPS = np.diag([-1.0, -1.0, 1.0])  # ITK's millimetres from those of NIfTI


def affine_of(angles=(25, -40, 100), spacing=(0.7, 1.3, 3.0), flips=(1, -1, 1)):
    """An oblique, anisotropic affine, some of whose axes point the other way."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(np.array(spacing) * flips)
    affine[:3, 3] = (-31.5, 12.25, 77)
    return affine


def as_itk(data, affine):
    """ITK's image of an array (x, y, z) with an affine to RAS, by ITK's own conventions."""
    image = itk.GetImageFromArray(np.ascontiguousarray(data.T))
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetDirection((LPS @ affine[:3, :3] / steps).flatten().tolist())
    image.SetOrigin((LPS @ affine[:3, 3]).tolist())
    return image


def dicom(folder, data, affine, series="1", leave_out=()):
    """The slices of a volume as files of one DICOM series in a folder."""
    language = locale.setlocale(locale.LC_ALL)  # GDCM sets it to "C" when it writes
    folder.mkdir(exist_ok=True)
    image = as_itk(data, affine)
    writer = itk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.reshape(image.GetDirection(), (3, 3))
    for number in range(data.shape[2]):
        plane = image[:, :, number]
        place = image.TransformIndexToPhysicalPoint((0, 0, number))
        tags = {
            "0008|0060": "MR",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{series}",
            "0020|0032": "\\".join(f"{one:.8f}" for one in place),
            "0020|0037": "\\".join(f"{one:.8f}" for one in direction[:, :2].T.flatten()),
            "0020|0013": str(number + 1),
            "0018|0050": f"{image.GetSpacing()[2]:.6f}",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}_{number}.dcm"))
        if number not in leave_out:
            writer.Execute(plane)
    locale.setlocale(locale.LC_ALL, language)
    return folder


def agree(found, wanted):
    np.testing.assert_array_equal(found.data, wanted.data)
    np.testing.assert_allclose(found.grid.affine, wanted.grid.affine, atol=1e-5)
    check_same_grid(found, wanted)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
def test_a_file_is_the_same_as_its_nifti(tmp_path, suffix):
    data, affine = noise(SHAPE), affine_of()
    wanted = load_volume(write_nifti(tmp_path / "a.nii.gz", data, affine), "flair")
    itk.WriteImage(as_itk(data, affine), str(tmp_path / f"a{suffix}"))
    found = load_volume(tmp_path / f"a{suffix}", "flair")
    agree(found, wanted)
    np.testing.assert_allclose(found.grid.spacing, (0.7, 1.3, 3.0), rtol=1e-6)
    assert found.source.name == f"a{suffix}"


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    flips=st.tuples(*[st.sampled_from((1, -1))] * 3),
)
def test_any_affine_survives_the_round_trip(tmp_path_factory, angles, spacing, flips):
    folder = tmp_path_factory.mktemp("round")
    data, affine = noise(SHAPE), affine_of(angles, spacing, flips)
    itk.WriteImage(as_itk(data, affine), str(folder / "a.mha"))
    found = load_volume(folder / "a.mha", "flair")
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(found.data, data)


def test_itk_says_where_a_voxel_is(tmp_path):
    """The affine against ITK's own word, voxel by voxel."""
    image = as_itk(noise(SHAPE), affine_of())
    itk.WriteImage(image, str(tmp_path / "a.nrrd"))
    found = load_volume(tmp_path / "a.nrrd", "flair")
    for voxel in np.ndindex(SHAPE):
        x, y, z = image.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose(found.grid.to_mm(np.array(voxel, float)), (-x, -y, z), atol=1e-5)
        assert found.data[voxel] == image[voxel]


@pytest.mark.parametrize("flips", [(1, 1, 1), (1, -1, -1)])
def test_a_dicom_series_is_the_same_as_its_nifti(tmp_path, flips):
    data, affine = noise(SHAPE, np.int16), affine_of(flips=flips)
    found = load_volume(dicom(tmp_path / "flair", data, affine), "flair")
    # A DICOM series is a stack of right-handed axes: ITK orders its slices along their normal.
    is_reversed = np.linalg.det(LPS @ affine[:3, :3]) < 0
    if is_reversed:
        turned = affine.copy()
        turned[:3, 3] += affine[:3, 2] * (SHAPE[2] - 1)
        turned[:3, 2] *= -1
        data, affine = data[:, :, ::-1], turned
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-4)
    assert found.source.name == f"dicom_{found.source.sha256[:8]}"


def test_labels_are_read_from_nrrd_too(tmp_path):
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[1, 2, 3] = 7
    itk.WriteImage(as_itk(data, affine_of()), str(tmp_path / "mask.nrrd"))
    labels, grid, source = load_labels(tmp_path / "mask.nrrd", "mask")
    assert labels[1, 2, 3] == 7
    assert labels.sum() == 7
    assert (grid.shape, source.name) == (SHAPE, "mask.nrrd")


def test_a_single_number_changes_the_sha256_of_each_kind(tmp_path):
    for name in ("a.mha", "a.mhd", "series"):
        found = []
        for value in (1, 2):
            data = noise(SHAPE, np.int16)
            data[0, 0, 0] = value
            if name == "series":
                dicom(tmp_path / name, data, affine_of(flips=(1, 1, 1)))
            else:
                itk.WriteImage(as_itk(data, affine_of()), str(tmp_path / name))
            found.append(file_sha256(tmp_path / name))
        assert found[0] != found[1], name


# --------------------------------------------------------------------------------------- mistakes


def test_a_folder_without_a_series(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SegxaiError, match=r"is a folder"):
        load_volume(tmp_path, "flair")


def test_a_folder_with_two_series(tmp_path):
    for series in ("1", "2"):
        dicom(tmp_path / "both", noise(SHAPE, np.int16), affine_of(), series)
    with pytest.raises(SegxaiError, match=r"holds 2 DICOM series: .*\.1 \(4 files\), .*\.2 \(4"):
        load_volume(tmp_path / "both", "flair")


def test_a_missing_slice_is_noticed(tmp_path):
    data = noise((5, 7, 6), np.int16)
    folder = dicom(tmp_path / "gap", data, affine_of(flips=(1, 1, 1)), leave_out=(2,))
    with pytest.raises(SegxaiError, match=r"3 to 6 mm apart"):
        load_volume(folder, "flair")


def test_a_single_slice_of_a_series(tmp_path):
    folder = dicom(tmp_path / "flair", noise(SHAPE, np.int16), affine_of())
    with pytest.raises(SegxaiError, match="single slice"):
        load_volume(folder / "1_0.dcm", "flair")


def test_colours_are_no_intensities(tmp_path):
    image = itk.GetImageFromArray(np.zeros((4, 4, 4, 3), dtype=np.uint8), isVector=True)
    itk.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(SegxaiError, match="holds 3 numbers for each voxel"):
        load_volume(tmp_path / "a.nrrd", "flair")


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 3)])
def test_an_image_of_other_axes_is_no_volume(tmp_path, shape):
    image = itk.GetImageFromArray(np.ones(shape, np.float32), isVector=False)
    itk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(SegxaiError, match="which is not a 3D volume"):
        load_volume(tmp_path / "a.mha", "flair")


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    with pytest.raises(SegxaiError, match=r"flair file a\.nrrd") as error:
        load_volume(tmp_path / "a.nrrd", "flair")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.nrrd", r"flair file a\.nrrd is read with SimpleITK, .* or convert it to NIfTI"),
        ("series", r"is a folder; DICOM series are read with .* or give the image file in it"),
    ],
)
def test_without_simpleitk_it_says_what_to_install(tmp_path, monkeypatch, name, message):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    path = tmp_path / name
    path.mkdir() if name == "series" else path.touch()
    with pytest.raises(SegxaiError, match=message) as error:
        load_volume(path, "flair")
    assert "pip install 'segxai[itk]'" in str(error.value)


def test_itk_keeps_its_own_warnings_setting(tmp_path):
    before = itk.ProcessObject.GetGlobalWarningDisplay()
    load_volume(dicom(tmp_path / "flair", noise(SHAPE, np.int16), affine_of()), "flair")
    assert itk.ProcessObject.GetGlobalWarningDisplay() == before


# --------------------------------------------------------------------------------- the whole way


def test_a_plugin_reads_nrrd_and_exports_onto_its_grid(folder, monkeypatch):
    """Any plugin that loads its files by `load_volume` takes them, and `rerun` finds them again."""
    use_toys(monkeypatch)
    make_case(folder)
    for name in ("bright", "other"):
        image = itk.ReadImage(f"{name}.nii.gz")
        itk.WriteImage(image, f"{name}.nrrd")
    quick = ("--method", "gradient", "--aggregator", "mean", "--overwrite")
    files = ("bright.nrrd", "other.nrrd")
    done = segxai("run", "--plugin", "toy", *files, *quick, "--out", "r.h5")
    assert done.status == 0, done.err
    again = segxai("rerun", "r.h5")
    assert again.status == 0, again.err
    exported = segxai("export", "r.h5", "maps")
    assert exported.status == 0, exported.err


def test_a_dicom_folder_called_after_the_patient_is_nowhere_in_the_result(folder, monkeypatch):
    use_toys(monkeypatch)
    for name, channel in zip(("SMITH^ANNA", "SMITH^ANNA_2"), picture(), strict=True):
        dicom(folder / name, (1000 * channel).astype(np.int16), np.eye(4), series=name[-1:] + "1")
    files = ("bright=SMITH^ANNA", "other=SMITH^ANNA_2")
    quick = ("--method", "gradient", "--aggregator", "mean", "--threshold", "0.01")
    done = segxai("run", "--plugin", "toy", *files, *quick)
    assert done.status == 0, done.err
    sha256 = file_sha256("SMITH^ANNA")
    result = folder / f"toy_dicom_{sha256[:8]}.h5"
    assert b"SMITH" not in result.read_bytes()
    assert "SMITH" not in segxai("show", result).out
    again = segxai("rerun", result)
    assert again.status == 0, again.err
    (folder / "SMITH^ANNA").rename(folder / "another")
    assert segxai("rerun", result).status == 0  # it is known by its content
