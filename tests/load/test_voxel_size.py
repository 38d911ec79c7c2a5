"""Voxel sizes: the unit in a header counts, and what makes no sense is refused."""

import nibabel as nib
import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import working_grid
from segxai.load.volumes import load_labels, load_volume
from segxai.load.voxel_size import check_change, header_spacing
from tests.grids import noise, oriented


def written(folder, unit, factor, spacing=(1, 1.5, 3), name="image.nii.gz"):
    """A file whose affine is `factor` times that in mm, in a unit of length."""
    affine = oriented("LPS", spacing=spacing).affine
    affine[:3] *= factor
    image = nib.Nifti1Image((noise() > 100).astype(np.float32), affine)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, folder / name)
    return folder / name


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("unknown", 1)])
def test_a_grid_is_in_mm_whatever_the_unit_of_the_header(tmp_path, unit, factor):
    path = written(tmp_path, unit, factor)
    wanted = oriented("LPS", spacing=(1, 1.5, 3))
    for grid in (load_volume(path, "FLAIR").grid, load_labels(path, "mask")[1]):
        np.testing.assert_allclose(grid.affine, wanted.affine, rtol=1e-6)
        assert grid.voxel_volume_mm3 == pytest.approx(4.5)
    assert header_spacing(path) == pytest.approx((1, 1.5, 3))


@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [
        ("meter", 1, r"voxels of 1e\+03 x 1.5e\+03 x 3e\+03 mm, outside of 0.01 to 20 mm \(its "),
        ("mm", 1e-3, r"voxels of 0.001 x 0.0015 x 0.003 mm, .* in mm, or names no unit\): correct"),
        ("micron", 1, r"voxels of 0.001 x .* \(its header is in microns\): correct the affine, or"),
        ("mm", 7, r"FLAIR file image.nii.gz has voxels of 7 x 10.5 x 21 mm"),
    ],
)
def test_absurd_voxels_are_refused(tmp_path, unit, factor, words):
    with pytest.raises(SegxaiError, match=words):
        load_volume(written(tmp_path, unit, factor), "FLAIR")


@pytest.mark.parametrize("spacing", [(0.01, 0.01, 0.01), (20, 20, 20)])
def test_the_limits_are_possible(tmp_path, spacing):
    assert load_volume(written(tmp_path, "mm", 1, spacing), "FLAIR").grid.shape == (5, 6, 7)


def test_a_resampling_that_changes_the_number_of_voxels_absurdly_is_refused():
    with pytest.raises(SegxaiError, match=r"would become 25 x 30 x 35 voxels of 1 mm .* 125 times"):
        working_grid(oriented("RAS", spacing=(5, 5, 5)))
    with pytest.raises(SegxaiError, match=r"5 x 6 x 7 voxels of 0.1 mm would .* 0.00476 times as"):
        working_grid(oriented("RAS", spacing=(0.1, 0.1, 0.1)))
    check_change(Grid.unit((2, 3, 4)), Grid.unit((20, 30, 4)))
    check_change(Grid.unit((20, 30, 4)), Grid.unit((2, 3, 4)))
    with pytest.raises(SegxaiError, match="101 times as many; check the voxel size"):
        check_change(Grid.unit((1, 1, 1)), Grid.unit((1, 1, 101)))
