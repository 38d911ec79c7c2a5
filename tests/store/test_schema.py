"""What a result file holds: all that is needed to trust a map, and nothing of the patient."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import segxai as package
from segxai.report.tables import instance_table
from segxai.store.hdf5 import open_result
from segxai.store.reader import find_run, maps, provenance_of_run, run_names
from segxai.store.schema import as_json, continued, difference, group, provenance_of, versions
from tests.commandline import make_case, segxai, use_toys
from tests.toy.segxai_toy import SHAPE, picture

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
RUN = "smoothgrad-signed_max"


@pytest.fixture
def tree(three_methods):
    with open_result(three_methods) as tree:
        yield tree


# ---------------------------------------------------------------------------------- the provenance


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_provenance_of_the_case_is_complete(tree, three_methods):
    stored = provenance_of(group(tree, "/"))
    assert stored.pop("created").startswith("20")
    assert stored.pop("versions") == versions()
    counts = {"predicted_tp": 3, "predicted_fp": 1, "reference_found": 3, "reference_fn": 1}
    assert stored.pop("matches") == {"any": counts, "one-to-one": counts}
    assert stored == {
        "plugin": {"name": "toy", "package": "segxai-toy", "version": "1.2"},
        "weights": None,
        "case": {
            "name": "bright",
            "channels": ["bright", "other"],
            "sources": [
                {
                    "role": role,
                    "name": f"{role}.nii.gz",
                    "sha256": sha256(three_methods.with_name(f"{role}.nii.gz")),
                }
                for role in ("bright", "other", "reference")
            ],
            "notes": [],
            "warnings": [],
        },
        "window": "whole image",
        "target": {
            "class": "ball",
            "class_index": 1,
            "threshold": 0.5,
            "min_volume_mm3": 3,
            "connectivity": 2,
            "instances": {"origin": "predicted"},
        },
    }


def test_the_provenance_of_a_run_is_complete(tree):
    stored = provenance_of_run(tree, RUN)
    expected = {
        "method": "smoothgrad",
        "aggregator": "signed_max",
        "packages": {
            "method": f"segxai {package.__version__}",
            "aggregator": f"segxai {package.__version__}",
        },
        "warnings": [],
        "layer": None,
        "score": "logit",
        "samples": 2,
        "tolerance": None,
        "antithetic": False,
        "noise": 0.05,
        "noise_unit": "range",
        "seed": 0,
        "rows": 30,
        "method_options": {},
        "numerics": {"precision": "float32", "row_tolerance": None},
        "crop_mm": 2.0,
        "labels": "all",
        "compute": {"device": "cpu", "engine": "auto", "batch": 2},
    }
    assert {name: stored[name] for name in expected} == expected
    assert stored["noise_levels"] == pytest.approx(
        [0.05 * np.ptp(channel) for channel in picture()], rel=1e-6
    )
    assert stored["started"].startswith("20")
    assert provenance_of_run(tree, "gradcam++")["layer"] == "active"


def test_the_versions_are_those_of_what_values_depend_on():
    found = versions()
    assert {"python", "segxai", "torch", "captum", "numpy", "scipy"} <= set(found)
    assert found["segxai"] == package.__version__
    assert found["numpy"] == np.__version__


def test_no_folder_is_in_the_file(three_methods):
    content = three_methods.read_bytes()
    assert b"bright.nii.gz" in content
    assert b"mueller" not in content


def test_a_mask_of_instances_and_the_weights_are_known_by_their_content(folder, monkeypatch):
    use_toys(monkeypatch)
    make_case(folder)
    done = segxai(*COMMAND, "--instances", "mask.nii.gz", "--split", "--method", "gradcam++")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        assert provenance_of(group(tree, "/"))["target"]["instances"] == {
            "origin": "mask",
            "name": "mask.nii.gz",
            "sha256": sha256(Path("mask.nii.gz")),
            "split": True,
        }


@pytest.mark.parametrize(
    ("stored", "asked", "words"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "a is 1 in the file, 2 now"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a b is 1 in the file, 2 now"),
        ({}, {"a": 2}, "a is None in the file, 2 now"),
        ({"a": [1]}, {}, "a is [1] in the file, None now"),
        ({"a": {"b": 1}, "c": 3}, {"a": {"b": 1}, "c": 4}, "c is 3 in the file, 4 now"),
    ],
)
def test_the_first_difference_is_named(stored, asked, words):
    assert difference(stored, asked) == words


def test_a_continued_run_keeps_its_start_and_unites_its_instances():
    here = {"device": "cpu", "engine": "auto", "batch": 1}
    there = {"device": "cuda:0", "engine": "dense", "batch": 8}
    first = {"seed": 0, "labels": [2], "started": "a", "compute": here}
    second = {"seed": 0, "labels": [1, 2], "started": "b", "compute": there}
    third = second | {"labels": "all", "started": "c"}
    united = continued(continued(first, second), third)
    assert united == first | {
        "labels": "all",
        "resumed": [{"started": "b", "compute": there}, {"started": "c", "compute": there}],
    }
    assert continued(first, second)["labels"] == [1, 2]
    assert json.loads(json.dumps(united)) == united


def test_facts_of_numpy_are_kept_as_plain_numbers():
    facts = {"a": np.float32(0.5), "b": [np.int64(3)], "c": {"d": np.array([1, 2])}, "e": None}
    assert json.loads(as_json(facts)) == {"a": 0.5, "b": [3], "c": {"d": [1, 2]}, "e": None}


# --------------------------------------------------------------------------------------- the groups


def test_the_groups_are_those_of_the_design(tree):
    assert set(tree.children) == {
        "input",
        "segmentation",
        "instances",
        "attributions",
        "summaries",
    }
    assert not tree.to_dataset().coords
    assert int(np.ravel(tree.attrs["schema"])[0]) == 3
    assert run_names(tree) == [RUN, "gradcam++", "class_smoothgrad-mean"]
    assert find_run(tree, None) == "class_smoothgrad-mean"
    assert list(maps(tree, RUN)) == [1, 2, 3, 4, 5]
    assert list(maps(tree, "class_smoothgrad-mean")) == [0]


def test_input_and_segmentation(tree):
    stored = group(tree, "input")
    np.testing.assert_array_equal(stored["image"], picture())
    assert stored["image"].dims == ("channel", "x", "y", "z")
    assert stored["channel"].values.tolist() == ["bright", "other"]
    np.testing.assert_array_equal(stored["affine"], np.eye(4))
    segmentation = group(tree, "segmentation")
    assert segmentation["class"].values.tolist() == ["ball"]
    probability = segmentation["probability"].values[0].astype(float)
    assert segmentation["probability"].dtype == segmentation["entropy"].dtype == np.float16
    inside = (probability > 0) & (probability < 0.999)
    wanted = -probability * np.log(probability, where=inside, out=np.zeros(SHAPE))
    wanted -= (1 - probability) * np.log(1 - probability, where=inside, out=np.zeros(SHAPE))
    np.testing.assert_allclose(segmentation["entropy"].values[inside], wanted[inside], atol=5e-3)
    labels = segmentation["labels"].values
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4, 5]
    predicted = (labels > 0) & (labels < 5)
    np.testing.assert_array_equal(
        predicted, segmentation["probability"].sel({"class": "ball"}) > 0.5
    )


def test_one_row_for_each_instance(tree):
    stored = group(tree, "instances").load()
    labels = group(tree, "segmentation")["labels"].values
    probability = group(tree, "segmentation")["probability"].values[0]
    assert stored["label"].values.tolist() == [1, 2, 3, 4, 5]
    assert stored["outcome"].values.tolist() == ["TP", "TP", "FP", "TP", "FN"]
    assert set(stored["class"].values.tolist()) == {"ball"}
    for label in range(1, 6):
        row, voxels = stored.sel(label=label), np.argwhere(labels == label)
        assert int(row["voxels"]) == float(row["volume_mm3"]) == len(voxels)
        mean = probability[labels == label].astype(float).mean()
        assert float(row["mean_probability"]) == pytest.approx(mean, rel=5e-4)  # of float16
        np.testing.assert_allclose(row["centroid_mm"], voxels.mean(axis=0))
        np.testing.assert_array_equal(row["bbox"], [voxels.min(axis=0), voxels.max(axis=0) + 1])


def test_every_map_carries_its_box_its_domain_and_its_affine(tree):
    labels = group(tree, "segmentation")["labels"].values
    for label, stored in maps(tree, RUN).items():
        assert stored["map"].dims == stored["standard_error"].dims == ("channel", "x", "y", "z")
        assert "ball" not in stored["map"].attrs["units"]
        box = tuple(stored[axis].values for axis in "xyz")
        for axis in box:
            np.testing.assert_array_equal(np.diff(axis), 1)
        inside = labels[np.ix_(*box)] == label
        np.testing.assert_array_equal(stored["domain"], inside)
        assert inside.sum() == (labels == label).sum()
        np.testing.assert_array_equal(stored["affine"], np.eye(4))
    assert maps(tree, "gradcam++")[1]["map"].dims == ("x", "y", "z")


def test_a_class_level_map_is_label_0(tree):
    stored = maps(tree, "class_smoothgrad-mean")[0]
    assert int(stored.attrs["label"]) == 0
    probability = group(tree, "segmentation")["probability"].values[0]
    assert int(stored["domain"].sum()) == int((probability > 0.5).sum())
    (row,) = instance_table(tree, "class_smoothgrad-mean")
    assert row["label"] == 0
    assert "volume_mm3" not in row


def test_numbers_are_float32_and_compressed(three_methods):
    with h5py.File(three_methods, "r") as file:
        for name in ("map", "standard_error"):
            stored = file[f"attributions/{RUN}/{name}"]
            assert stored.dtype == np.float32
            assert (stored.compression, stored.shuffle) == ("gzip", True)
        assert file["segmentation/probability"].compression == "gzip"
        assert file["input/image"].dtype == np.float32


def test_a_cut_map_ends_at_its_distance_and_says_what_was_left_out(tree):
    for row in instance_table(tree, RUN):
        stored = maps(tree, RUN)[row["label"]]
        facts = json.loads(stored.attrs["facts"])
        assert facts["crop_mm"] == 2
        assert 0 < facts["energy_left_out"] < 1
        assert row["energy_left_out"] == facts["energy_left_out"]
        used = np.argwhere((stored["map"] != 0).any("channel").values)
        domain = np.argwhere(stored["domain"].values)
        distances = np.linalg.norm(used[:, None] - domain[None], axis=-1).min(axis=1)
        assert distances.max() <= 2


def test_a_map_is_cropped_to_what_is_not_0(folder, monkeypatch):
    use_toys(monkeypatch)
    make_case(folder)
    assert segxai(*COMMAND, "--method", "gradient", "--aggregator", "mean").status == 0
    with open_result("r.h5") as tree:
        for stored in maps(tree, "gradient-mean").values():
            used = (stored["map"] != 0).any("channel").values
            for axis in range(3):
                ends = used.any(axis=tuple({0, 1, 2} - {axis}))[[0, -1]]
                assert ends.all()
            assert stored["map"].size < 2 * np.prod(SHAPE)


def test_the_summaries_are_those_of_the_maps(tree):
    for name in run_names(tree):
        table = group(tree, f"summaries/{name}").load()
        for label, stored in maps(tree, name).items():
            values = stored["map"].values.reshape(table.sizes["channel"], -1)
            np.testing.assert_array_equal(table.peak.sel(label=label), values.max(axis=1).clip(0))
            np.testing.assert_array_equal(
                table.trough.sel(label=label), values.min(axis=1).clip(max=0)
            )


def test_an_estimate_carries_its_error_and_an_exact_map_none(tree):
    stored = maps(tree, RUN)
    facts = {label: json.loads(stored[label].attrs["facts"]) for label in (1, 2)}
    row = next(row for row in instance_table(tree, RUN) if row["label"] == 1)
    for name in ("peak_error", "map_error", "map_error_l2"):
        assert 0 <= facts[1][name] < 3
        assert row[name] == facts[1][name]
        assert name not in facts[2]
    strata = facts[1]["rows_by_stratum"]
    assert list(strata) == ["surface", "mid", "core"]
    assert sum(one["rows"] for one in strata.values()) == facts[1]["rows"] == 30
    assert sum(one["voxels"] for one in strata.values()) == facts[1]["domain_voxels"] == 40
    assert "rows_by_stratum" not in facts[2]


def test_a_public_name_opens_the_tree(three_methods):
    with package.open_result(str(three_methods)) as tree:
        assert isinstance(tree, xr.DataTree)
        assert tree["input/image"].shape == (2, *SHAPE)


# ----------------------------------------------------------------------------- without torch

READING = """
import sys, segxai
from segxai.cli import main
assert "torch" not in sys.modules, "import segxai"
with segxai.open_result("r.h5") as tree:
    float(segxai.maps(tree, "smoothgrad-signed_max")[1]["map"][0, 0, 0, 0])
assert "torch" not in sys.modules, "open_result"
draw = ["show", "r.h5", "--run", "class_smoothgrad-mean", "--png", sys.argv[1]]
for words in (draw, ["export", "r.h5", sys.argv[1]]):
    sys.argv = ["segxai", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
    assert "torch" not in sys.modules, words
    sys.argv = ["segxai", words[-1]]
"""


def test_reading_a_result_imports_no_torch(three_methods, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READING, str(tmp_path)],
        cwd=three_methods.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"labels.nii.gz", "class_smoothgrad-mean.csv"} <= {
        one.name for one in tmp_path.iterdir()
    }
