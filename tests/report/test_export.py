"""Exported maps lie where they were, on the grid of the user's own file."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tifffile import imread

from segxai.load.resampling import working_grid
from segxai.report.export import export
from segxai.report.tables import instance_table
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.reader import maps
from segxai.store.schema import attribution_of, grid_of
from segxai.store.writer import adding_maps
from segxai.types import Attribution, Case, Instance
from tests.commandline import make_case, segxai, use_toys, write_nifti
from tests.grids import oriented, positions
from tests.toy.segxai_toy import picture


def user_grid(codes, spacing=(1, 1, 1)):
    return oriented(codes, (12, 10, 8), spacing)


def ramp(points):
    """A quantity that is linear in space, so that interpolation is exact."""
    return np.asarray(points @ [1.0, -2.0, 0.5] + 3, dtype=np.float32)


def result_of(source, values_at, channels=("flair", "mprage")):
    """A result whose map of instance 3 is a function of the position."""
    grid = working_grid(source)
    shape = grid.shape
    everywhere = values_at(positions(grid))
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(n // 3, n // 2) for n in shape)] = True
    case = Case(
        name="c",
        image=np.ones((2, *shape), dtype=np.float32),
        channels=channels,
        grid=grid,
        foreground=np.ones(shape, dtype=bool),
        source_grid=source,
    )
    instance = Instance.from_mask(mask, label=3)
    logits = np.zeros((2, *shape), dtype=np.float32)
    values = np.stack([everywhere, -everywhere])
    facts = {"rows": 1, "domain_voxels": 1, "estimate": False}
    hdf5.create(Path("r.h5"), case, Segmentation.of(logits, ("rest", "lesion")), [instance], {})
    hdf5.start_run(Path("r.h5"), "run", {"method": "m", "started": "1"})
    attribution = Attribution(3, values, (0, 0, 0), None, facts)
    with adding_maps(Path("r.h5"), case) as writer:
        writer.add("run", attribution, instance)
    return mask


def exported():
    with hdf5.open_result("r.h5") as tree:
        return {path.name: path for path in export(tree, "run", Path("maps"))}


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SRP", "ALS", "IPR"])
def test_a_map_lies_where_it_was_in_any_orientation(folder, codes):
    source = user_grid(codes)
    mask = result_of(source, ramp)
    files = exported()
    assert list(files) == ["labels.nii.gz", "run-3-flair.nii.gz", "run-3-mprage.nii.gz", "run.csv"]
    for name, sign in (("flair", 1), ("mprage", -1)):
        image = nib.load(files[f"run-3-{name}.nii.gz"])
        assert image.get_data_dtype() == np.float32
        assert nib.aff2axcodes(image.affine) == tuple(codes)
        np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
        np.testing.assert_array_equal(image.get_fdata(), sign * ramp(positions(source)))
    labels = nib.load(files["labels.nii.gz"])
    assert labels.get_data_dtype() == np.int32
    found = np.asarray(labels.dataobj)
    assert sorted(np.unique(found)) == [0, 3]
    stored = positions(working_grid(source))[mask]
    np.testing.assert_allclose(
        np.sort(positions(source)[found == 3], axis=0), np.sort(stored, axis=0), atol=1e-4
    )


@pytest.mark.parametrize("spacing", [(0.8, 1, 1), (1, 3, 1), (0.7, 2.2, 1.4)])
def test_a_map_is_interpolated_onto_other_voxels(folder, spacing):
    source = user_grid("LAS", spacing)
    result_of(source, ramp)
    found = nib.load(exported()["run-3-flair.nii.gz"])
    assert found.shape == source.shape
    expected, inside = ramp(positions(source)), (slice(3, -3),) * 3
    np.testing.assert_allclose(found.get_fdata()[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("channels", [("t1/b", "t1-b"), ("t1-b", "t1\\b"), ("T1", "t1")])
def test_channels_whose_names_become_the_same_are_kept_apart(folder, channels):
    source = user_grid("RAS")
    result_of(source, ramp, channels)
    _, first, second, _ = exported().values()
    assert f"{first.name.removesuffix('.nii.gz')}-2.nii.gz".lower() == second.name.lower()
    for path, sign in ((first, 1), (second, -1)):
        np.testing.assert_array_equal(nib.load(path).get_fdata(), sign * ramp(positions(source)))


def test_the_table_has_every_number(folder):
    result_of(user_grid("RAS"), ramp)
    files = exported()
    with files["run.csv"].open(newline="") as file:
        (row,) = csv.DictReader(file)
    with hdf5.open_result("r.h5") as tree:
        (expected,) = instance_table(tree, "run")
    assert row == {name: str(value) for name, value in expected.items()}
    assert float(row["flair peak"]) == -float(row["mprage trough"])


def test_a_heat_map_and_a_class_map_are_exported(folder, monkeypatch):
    use_toys(monkeypatch)
    make_case(folder)
    command = ["run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5"]
    assert segxai(*command, "--method", "gradcam++", "--instances", "2").status == 0
    assert segxai(*command, "--method", "class_gradcam++", "--append").status == 0
    done = segxai("export", "r.h5", "maps", "--run", "gradcam++")
    assert done.out.splitlines() == [
        "maps/labels.nii.gz",
        "maps/gradcam++-2-heat.nii.gz",
        "maps/gradcam++.csv",
    ]
    done = segxai("export", "r.h5", "maps")
    assert "maps/class_gradcam++-0-heat.nii.gz" in done.out.splitlines()
    heat = nib.load("maps/gradcam++-2-heat.nii.gz").get_fdata()
    with hdf5.open_result("r.h5") as tree:
        stored = maps(tree, "gradcam++")[2]["map"].load()
    index = np.ix_(stored.x, stored.y, stored.z)
    np.testing.assert_array_equal(heat[index], stored.values)
    heat[index] = 0
    assert not heat.any()


def test_an_unfinished_run_is_exported_as_far_as_it_is(folder):
    result_of(user_grid("RAS"), ramp)
    hdf5.start_run(Path("r.h5"), "later", {"method": "m", "started": "2"})
    with hdf5.open_result("r.h5") as tree:
        names = [path.name for path in export(tree, "later", Path("maps"))]
    assert names == ["labels.nii.gz", "later.csv"]


def test_a_flat_result_is_exported_as_tiff(folder, monkeypatch):
    use_toys(monkeypatch)
    command = ["run", "--plugin", "toy_flat", "--method", "gradcam++", "--out", "r.h5"]
    assert segxai(*command).status == 0
    with hdf5.open_result("r.h5") as tree:
        files = list(export(tree, "gradcam++", Path("maps")))
        heat = attribution_of(maps(tree, "gradcam++")[1]).on_grid(grid_of(tree).shape)
        labels = tree["segmentation/labels"].values
    assert [file.name for file in files][:2] == ["labels.tif", "gradcam++-1-heat.tif"]
    np.testing.assert_array_equal(imread(files[1]), heat)
    np.testing.assert_array_equal(imread(files[0]), labels)


def test_a_round_trip_through_the_command_line(folder, monkeypatch):
    use_toys(monkeypatch)
    affine = user_grid("PSL", (2, 1.5, 3)).affine
    for name, channel in zip(("bright", "other"), picture(), strict=True):
        write_nifti(f"{name}.nii.gz", channel, affine)
    command = ["run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--method", "toy_image"]
    assert segxai(*command, "--out", "r.h5").status == 0
    assert segxai("export", "r.h5", "maps").status == 0
    for name, channel in zip(("bright", "other"), picture(), strict=True):
        found = nib.load(f"maps/toy_image-1-{name}.nii.gz")
        np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), channel)
        np.testing.assert_allclose(found.affine, affine, atol=1e-5)
