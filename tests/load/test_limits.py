"""Limits: a small file that declares a large image is refused in a line, before it is read."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.limits import at_most, check_size, largest
from segxai.load.pictures import load_picture_labels
from segxai.load.resampling import resample
from segxai.load.volumes import load_volume
from tests.commandline import segxai, write_nifti

SHAPE = (1000, 1000, 1500)


pytestmark = pytest.mark.usefixtures("folder")


def declared(path, shape=SHAPE):
    """A NIfTI file that declares a shape, and holds a few zeros."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4096)
    Path(path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_small_nifti_of_many_voxels(name):
    declared(name)
    with pytest.raises(SegxaiError, match=r"1.5e\+09 voxels.* 3e"):
        load_volume(name, "flair")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_small_file_of_itk_of_many_voxels(suffix):
    pytest.importorskip("SimpleITK")
    texts = {
        ".mha": "ObjectType = Image\nNDims = 3\nDimSize = 1000 1000 1500\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        ".nrrd": "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1000 1000 1500\nencoding: raw\n\n",
    }
    Path(f"a{suffix}").write_text(texts[suffix])
    with pytest.raises(SegxaiError, match=r"1.5e\+09 voxels.* 3e\+08"):
        load_volume(f"a{suffix}", "flair")


def test_an_array_of_many_pixels():
    np.lib.format.open_memmap("a.npy", "w+", np.uint8, (30, 40))
    with at_most(1000), pytest.raises(SegxaiError, match=r"mask file a.npy has 30 x 40 = 1.2e\+03"):
        load_picture_labels("a.npy", "mask")


def test_a_grid_that_becomes_too_large():
    small, fine = Grid.unit((4, 4, 4)), Grid((2000,) * 3, np.diag([0.002, 0.002, 0.002, 1]))
    with pytest.raises(SegxaiError, match=r"2000 x 2000 x 2000"):
        resample(np.zeros((4, 4, 4)), small, fine, order=1)


def test_the_limit_is_lifted_within_the_block_alone():
    check_size((10**8, 3), "it")
    with at_most(None):
        assert largest() == 3 * 10**8
    with at_most(10**9):
        check_size((10**9,), "it")
        with at_most(5), pytest.raises(SegxaiError, match="6 voxels, .* 5"):
            check_size((2, 3), "it")
    with pytest.raises(SegxaiError, match="give a larger --max-voxels"):
        check_size((10**9,), "it")


def test_a_rerun_sets_it_too(case, toys):
    files, method = ("bright.nii.gz", "other.nii.gz"), ("--method", "gradient")
    run = ("run", "--plugin", "toy", *files, *method, "--instances", "1", "--out", "r.h5")
    assert segxai(*run).status == 0
    assert "and at most 999 are allowed" in segxai("rerun", "r.h5", "--max-voxels", 999).error
    assert segxai("rerun", "r.h5", "--max-voxels", 10**6).status == 0


@pytest.mark.parametrize(("most", "words"), [(999, "and at most 999 are allowed"), (0, "is 0; g")])
def test_the_shell_sets_it(most, words):
    write_nifti("a.nii", np.ones((10, 10, 10), dtype=np.uint8))
    done = segxai("run", "--plugin", "ms_lesion", "a.nii", "a.nii", "--max-voxels", most)
    assert words in done.error
