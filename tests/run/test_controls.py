"""Controls lie in healthy tissue, apart, and have the size or the shape that they should."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from segxai import Case, Grid, Instance, SegxaiWarning, tabulate
from segxai.run.controls import place_controls, sphere_offsets, turns
from tests.commandline import segxai, write_nifti, write_reference
from tests.toy.segxai_toy import SHAPE

FILES = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz")
RUN = ("run", "--plugin", "toy", *FILES, "--method", "gradient", "--out", "r.h5")


def test_a_sphere_at_one_millimetre_is_all_points_within_root_eight():
    found = {tuple(one) for one in sphere_offsets(Grid.unit((50, 50, 50)), []).tolist()}
    wanted = {
        (x, y, z)
        for x in range(-3, 4)
        for y in range(-3, 4)
        for z in range(-3, 4)
        if x * x + y * y + z * z <= 8
    }
    assert found == wanted
    assert len(found) == 93


@pytest.mark.parametrize("steps", [(1, 1, 3), (0.5, 0.5, 0.5), (2, 1, 1.3), (0.9, 0.9, 5)])
def test_spheres_have_their_volume_at_any_spacing(steps):
    grid = Grid((40, 40, 40), np.diag([*steps, 1.0]))
    offsets = sphere_offsets(grid, [])
    volume = grid.voxel_volume_mm3
    assert abs(len(offsets) * volume - 93) <= max(volume / 2, 1e-9) + 1e-9
    reach = np.linalg.norm(offsets * steps, axis=1).max()
    others = np.argwhere(np.ones((41, 41, 41))) - 20
    distances = np.linalg.norm(others * np.asarray(steps), axis=1)
    assert (distances < reach - 1e-6).sum() <= len(offsets)  # none that is nearer was left out


def test_a_disc_has_the_median_area():
    assert len(sphere_offsets(Grid.unit((30, 30)), [4, 21, 1000])) == 21


def test_turns_keep_the_lattice():
    assert len(turns(Grid.unit((9, 9, 9)))) == 24
    assert len(turns(Grid((9, 9, 9), np.diag([1.0, 1, 3, 1])))) == 8
    assert len(turns(Grid((9, 9, 9), np.diag([1.0, 2, 3, 1])))) == 4
    assert len(turns(Grid.unit((9, 9)))) == 4


def scene():
    rng = np.random.default_rng(0)
    shape = (40, 38, 36)
    reference, predicted = np.zeros((2, *shape), dtype=bool)
    reference[5:9, 6:9, 7:12] = predicted[6:10, 6:9, 7:12] = True
    predicted[30, 30, 30] = True  # too small for an instance
    foreground = np.zeros(shape, dtype=bool)
    foreground[3:-3, 3:-3, 3:-3] = True
    case = Case(
        "made up", np.zeros((1, *shape), np.float32), ("x",), Grid.unit(shape), foreground,
        reference=reference,
    )  # fmt: skip
    blob = np.unique(rng.integers(20, 24, (40, 3)), axis=0)
    instances = [
        Instance(1, np.argwhere(predicted[:20]), outcome="TP"),
        Instance(2, blob, outcome="FP"),
    ]
    return case, instances, predicted


def placed(kinds, case, instances, predicted, seed=0):
    return place_controls(kinds, case, instances, predicted, class_index=1, seed=seed)


def test_controls_lie_in_healthy_tissue_and_apart():
    case, instances, predicted = scene()
    controls = placed(("spheres", "matched"), case, instances, predicted)
    assert [one.label for one in controls] == list(range(3, 15))
    assert {one.outcome for one in controls} == {"TN"}
    count = np.zeros(case.grid.shape, dtype=int)
    for one in [*controls, *instances]:
        count[tuple(one.voxels.T)] += 1
    assert count.max() == 1
    for one in controls:
        inside = tuple(one.voxels.T)
        assert case.foreground[inside].all()
        assert not (case.reference | predicted)[inside].any()
    assert [len(one.voxels) for one in controls[:10]] == [93] * 10
    for control in controls[10:]:
        source = instances[control.source - 1]
        own, theirs = (np.sort(pdist(one.voxels)) for one in (control, source))
        np.testing.assert_allclose(own, theirs)  # the same shape, moved and turned
    assert [one.source for one in controls[10:]] == [1, 2]  # the largest first


def test_the_seed_decides_and_spheres_do_not_depend_on_other_controls():
    case, instances, predicted = scene()
    both = placed(("spheres", "matched"), case, instances, predicted)
    again = placed(("spheres",), case, instances, predicted)
    other = placed(("spheres",), case, instances, predicted, seed=1)
    same = [np.array_equal(a.voxels, b.voxels) for a, b in zip(both, again, strict=False)]
    assert all(same)
    assert not np.array_equal(again[0].voxels, other[0].voxels)


def test_what_finds_no_place_is_counted():
    case, instances, predicted = scene()
    narrow = np.zeros(case.grid.shape, dtype=bool)
    narrow[3:-3, 3, 3] = True
    case = replace(case, foreground=narrow)
    with pytest.warns(SegxaiWarning) as said:
        assert placed(("spheres", "matched"), case, instances, predicted) == []
    words = [str(one.message) for one in said]
    assert words[0].startswith("10 of 10 spheres found no place")
    assert words[1].startswith("2 of 2 matched controls found no place")


def test_healthy_people_have_no_controls():
    case, instances, predicted = scene()
    healthy = replace(case, reference=np.zeros(case.grid.shape, dtype=bool))
    with pytest.warns(SegxaiWarning, match="the reference is empty: no controls are placed"):
        assert placed(("spheres",), healthy, instances, predicted) == []
    with pytest.warns(SegxaiWarning, match="there is no reference: no controls"):
        assert placed(("matched",), replace(case, reference=None), instances, predicted) == []


@pytest.mark.filterwarnings("ignore:.*found no place")
def test_a_run_explains_lesions_and_controls_together(case, toys):
    write_reference("reference.nii.gz")
    words = (*RUN, "--controls", "matched,spheres", "--score", "logit,probability")
    done = segxai(*words)
    assert done.status == 0, done.err
    table = tabulate("r.h5")
    assert set(table["outcome"]) == {"TP", "FP", "FN", "TN"}
    lesions = table[table["outcome"] != "TN"]
    for _, control in table[table["kind"] == "matched"].iterrows():
        source = lesions[lesions["label"] == control["source"]]
        assert set(source["voxels"]) == {control["voxels"]}
    spheres = table[table["kind"] == "sphere"]
    assert set(spheres["voxels"]) == {93}
    assert spheres["source"].isna().all()
    assert len({tuple(labels) for _, labels in table.groupby("score")["label"]}) == 1
    assert "nothing left to do" in segxai(*words).err
    assert "controls_seed is 0 in the file, 1 now" in segxai(*words, "--seed", "1").error
    assert segxai("rerun", "r.h5", "--run", "gradient-signed_max").status == 0
    chosen = (*RUN[:-1], "s.h5", "--controls", "matched", "--instances", "2")
    assert segxai(*chosen).status == 0
    few = tabulate("s.h5")
    assert set(few["label"]) - {2} == set(few[few["source"] == 2]["label"])


def test_kinds_of_controls_are_known(case, toys):
    write_reference("reference.nii.gz")
    assert "--controls balls: give spheres or matched" in segxai(*RUN, "--controls", "balls").error
    error = segxai(*RUN, "--controls", "spheres", "--method", "class_smoothgrad").error
    assert "leave out --controls" in error


def test_regions_of_instances(case, toys):
    write_reference("reference.nii.gz")
    regions = np.zeros(SHAPE, np.uint8)
    regions[:10], regions[10:] = 1, 2
    write_nifti("regions.nii.gz", regions)
    words = (*RUN, "--regions", "regions.nii.gz")
    assert segxai(*words).status == 0
    assert set(tabulate("r.h5")["region"]) == {"1", "2"}
    Path("regions.json").write_text('{"1": "left"}')
    assert segxai(*words, "--overwrite").status == 0
    table = tabulate("r.h5")
    assert set(table["region"]) == {"left", "2"}
    assert (table["region"] == "left").tolist() == (table["centroid_x_mm"] < 9.5).tolist()
    assert "0.0e+00" in segxai("rerun", "r.h5").out
    Path("regions.json").write_text("[1]")
    assert "regions.json does not name regions" in segxai(*words, "--overwrite").error


def test_a_case_is_named_after_its_file(case, toys):
    for channel in ("bright", "other"):
        Path(f"{channel}.nii.gz").rename(f"sub-07_ses-2_acq-x_{channel}.nii.gz")
    files = [f"sub-07_ses-2_acq-x_{channel}.nii.gz" for channel in ("bright", "other")]
    words = ("run", "--plugin", "toy", *files, "--method", "gradient")
    assert segxai(*words).status == 0
    (row, *_) = tabulate("toy_sub-07_ses-2.h5").to_dict("records")
    assert (row["case"], row["patient"], row["session"]) == ("sub-07_ses-2", "sub-07", "ses-2")
    assert segxai(*words, "--case", "first").status == 0
    (row, *_) = tabulate("toy_first.h5").to_dict("records")
    assert (row["case"], row["patient"]) == ("first", "sub-07")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "0.0e+00" in segxai("rerun", "toy_first.h5").out


def test_a_refused_file_names_the_difference_in_a_line(case, toys):
    write_reference("reference.nii.gz")
    assert segxai(*RUN).status == 0
    write_nifti("reference.nii.gz", np.ones(SHAPE, np.uint8))
    error = segxai(*RUN).error
    assert "case sources reference sha256 is '" in error
    assert len(error) < 300
    assert len(segxai(*RUN[:5], "--method", "gradient", "--out", "r.h5").error) < 400
