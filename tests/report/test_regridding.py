"""Maps on other voxels: interpolated linearly, and no peak is lost."""

import csv
from itertools import product

import nibabel as nib
import numpy as np
import pytest

from segxai.geometry import Grid
from segxai.load.resampling import working_grid
from segxai.report.regridding import regridded
from segxai.types import Attribution
from tests.commandline import segxai
from tests.grids import TILT, oriented
from tests.report.test_export import exported, result_of, user_grid


def literal(values, grid, target):
    """The map on another grid, by loops over voxels."""
    found = np.zeros(target.shape)
    padded = np.pad(values, 1)
    to_old = np.linalg.solve(grid.affine, target.affine)
    for voxel in np.ndindex(*target.shape):
        place = (to_old @ [*voxel, 1])[:-1]
        if any(
            x < -0.5 - 1e-3 or x > n - 0.5 + 1e-3 for x, n in zip(place, grid.shape, strict=True)
        ):
            continue
        place = np.clip(place, 0, np.array(grid.shape) - 1)
        for corner in product((0, 1), repeat=len(place)):
            at = np.minimum(np.floor(place) + corner, np.array(grid.shape) - 1).astype(int)
            share = [f if c else 1 - f for f, c in zip(place % 1, corner, strict=True)]
            found[voxel] += np.prod(share) * values[tuple(at)]
    peaks = {}
    to_new = np.linalg.solve(target.affine, grid.affine)
    for voxel in np.ndindex(*grid.shape):
        around, value = padded[tuple(slice(x, x + 3) for x in voxel)], values[voxel]
        if value == 0 or value != (around.max() if value > 0 else around.min()):
            continue
        place = tuple(np.rint((to_new @ [*voxel, 1])[:-1]).astype(int))
        if all(0 <= x < n for x, n in zip(place, target.shape, strict=True)):
            peaks.setdefault(place, []).append(value)
    for place, several in peaks.items():
        strongest = max(several, key=lambda value: (abs(value), value))
        if abs(strongest) > abs(found[place]):
            found[place] = strongest
    return found


def map_of(values, offset=None):
    return Attribution(1, values, offset or (0,) * values.ndim)


@pytest.mark.parametrize("spacing", [(0.7, 1, 1), (1, 1, 3), (2.2, 1.3, 0.6), (4, 4, 4)])
def test_it_is_what_loops_over_voxels_give(spacing):
    source = oriented("LPS", (7, 6, 5), spacing, TILT)
    grid = working_grid(source)
    values = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    values[values < 0.5] *= values[values < 0.5] < -0.5
    wanted = literal(values.astype(np.float64), grid, source)
    np.testing.assert_allclose(regridded(map_of(values), grid, source), wanted, atol=1e-5)


@pytest.mark.parametrize("thickness", [1, 1.6, 2, 3, 6])
@pytest.mark.parametrize("height", [1.0, -1.0])
def test_a_single_voxel_keeps_its_value_in_slices_of_any_thickness(thickness, height):
    grid = Grid.unit((8, 8, 12))
    affine = np.diag([1, 1, thickness, 1.0])
    affine[2, 3] = (thickness - 1) / 2
    thick = Grid((8, 8, int(12 / thickness)), affine)
    values = np.full((1, 1, 1), height, dtype=np.float32)
    for z in range(int(int(12 / thickness) * thickness)):
        found = regridded(map_of(values, (3, 4, z)), grid, thick)
        assert abs(found).max() == 1
        assert found[3, 4, np.rint((z - affine[2, 3]) / thickness).astype(int)] == height


def test_of_two_peaks_in_one_voxel_the_stronger_one_is_kept():
    grid, coarse = Grid.unit((9,)), Grid((3,), np.array([[3, 1], [0, 1.0]]))
    values = np.array([2, 0, -3, 4, 0, -4, 0, 0, 1], dtype=np.float32)
    assert regridded(map_of(values), grid, coarse).tolist() == [-3, 4, 1]
    channels = Attribution(1, np.stack([values, -values]), (0,))
    assert regridded(channels, grid, coarse).tolist() == [[-3, 4, 1], [3, 4, -1]]


def bumps(points):
    """A rough map with a peak, a trough and values that vary between neighbours."""
    values = np.sin(7 * points).prod(axis=-1)
    values[4, 5, 2], values[8, 3, 5] = 4.29, -3.5
    return values.astype(np.float32)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 1, 1), (1, 1, 3), (2.5, 2.5, 2.5)])
def test_the_table_and_the_volume_have_the_same_peak(folder, spacing):
    result_of(user_grid("LAS", spacing), bumps)
    files = exported()
    with files["run.csv"].open(newline="") as file:
        (row,) = csv.DictReader(file)
    for channel, sign in (("flair", 1), ("mprage", -1)):
        values = sign * nib.load(files[f"run-3-{channel}.nii.gz"]).get_fdata()
        assert values.max() == pytest.approx(4.29, abs=1e-6)
        assert values.min() == -3.5
        assert sign * float(row[f"{channel} {'peak' if sign > 0 else 'trough'}"]) == values.max()


def test_interpolation_is_said_on_the_command_line(folder):
    result_of(user_grid("LAS", (1, 1, 3)), bumps)
    done = segxai("export", "r.h5", "maps")
    assert done.err.strip().startswith("maps are brought to the input's own voxels: interpolated")
    result_of(user_grid("LAS"), bumps)
    assert segxai("export", "r.h5", "maps").err == ""
