"""Which run of a file a command goes on with: the same, another beside it, or none."""

from pathlib import Path

import h5py
import pytest

from segxai.store import hdf5
from segxai.store.runs import new_name
from tests.commandline import assert_same, make_result, maps_of, segxai, snapshot

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--samples", "2")
COMMAND += ("--aggregator", "mean")
RUN = "smoothgrad-mean"


pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What the command writes when nothing disturbs it."""
    return make_result(tmp_path_factory.mktemp("unbroken"), (*COMMAND, "--out", "r.h5"))


@pytest.fixture
def result(case, unbroken):
    Path("r.h5").write_bytes(unbroken.read_bytes())
    return Path("r.h5")


def test_a_complete_run_prints_its_table_again_and_computes_nothing(result, monkeypatch):
    before = result.read_bytes()
    monkeypatch.setattr("segxai.pipeline.segment", None)
    done = segxai(*COMMAND, "--out", "r.h5")
    assert done.status == 0
    assert "nothing left to do: all maps are in r.h5" in done.err
    assert [line.split()[0] for line in done.out.splitlines() if " ball " in line] == list("1234")
    assert result.read_bytes() == before


@pytest.mark.parametrize("option", [("--batch", "3"), ("--device", "cpu"), ("--engine", "dense")])
def test_device_engine_and_batch_are_no_other_run(result, option):
    before = result.read_bytes()
    assert segxai(*COMMAND, *option, "--out", "r.h5").status == 0
    assert result.read_bytes() == before


CASE = "r.h5 holds another case or model: "
RUN_DIFFERS = "r.h5 holds another run: "
DIFFERENCES = {
    "samples": (["--samples", "3"], RUN_DIFFERS + "samples is 2 in the file, 3 now"),
    "noise": (["--noise", "0.1"], RUN_DIFFERS + "noise is 0.05 in the file, 0.1 now"),
    "noise unit": (["--noise-unit", "p99"], RUN_DIFFERS + "noise_unit is 'range'"),
    "seed": (["--seed", "1"], RUN_DIFFERS + "seed is 0 in the file, 1 now"),
    "rows": (["--rows", "5"], RUN_DIFFERS + "rows is None in the file, 5 now"),
    "crop": (["--crop", "3"], RUN_DIFFERS + "crop_mm is None in the file, 3.0 now"),
    "score": (["--score", "margin"], RUN_DIFFERS + "score is 'logit' in the file, 'margin' now"),
    "aggregator": (["--aggregator", "signed_max"], RUN_DIFFERS + "aggregator is 'mean' in"),
    "method": (["--method", "gradient"], RUN_DIFFERS + "method is 'smoothgrad' in the file"),
    "class": (["--class", "rest"], CASE + "target class is 'ball' in the file, 'rest' now"),
    "threshold": (["--threshold", "0.4"], CASE + "target threshold is 0.5 in the file, 0.4 now"),
    "volume": (["--min-volume", "4"], CASE + "target min_volume_mm3 is 3 in the file, 4.0 now"),
    "mask": (
        ["--instances", "mask.nii.gz"],
        CASE + "target instances origin is 'predicted' in the file",
    ),
    "reference": (["--reference", "mask.nii.gz"], CASE + "case sources is [{'role': 'bright'"),
    "plugin": (["--plugin", "toy_plain"], CASE + "plugin name is 'toy' in the file, 'toy_plain'"),
    "instances": (
        ["--instances", "1,3"],
        "r.h5 holds this run for instances all, but now [1, 3] are asked for; give --append",
    ),
}


@pytest.mark.parametrize(("option", "words"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_another_command_is_refused_with_the_difference(result, option, words):
    before = result.read_bytes()
    error = segxai(*COMMAND, *option, "--out", "r.h5").error
    assert words in error
    assert "--overwrite" in error
    assert result.read_bytes() == before
    assert segxai(*COMMAND, *option, "--out", "r.h5", "--dry-run").error == error


def test_another_image_is_refused_with_the_difference(result):
    Path("other.nii.gz").write_bytes(Path("bright.nii.gz").read_bytes())
    error = segxai(*COMMAND, "--out", "r.h5").error
    assert error.startswith(CASE + "case sources other sha256 is '")
    assert len(error) < 400


def test_append_adds_another_method(result):
    before = snapshot(result)
    done = segxai(*COMMAND, "--method", "gradient", "--out", "r.h5", "--append")
    assert done.status == 0, done.err
    after = snapshot(result)
    assert {name.split("/")[1] for name in maps_of(after)} == {RUN, "gradient-mean"}
    assert_same({name: after[name] for name in before}, before)


def test_append_adds_the_same_method_with_other_settings_under_another_name(result):
    assert segxai(*COMMAND, "--seed", "1", "--out", "r.h5", "--append").status == 0
    assert set(hdf5.runs(result)) == {RUN, f"{RUN}-2"}
    assert hdf5.runs(result)[f"{RUN}-2"]["seed"] == 1


def test_append_refuses_another_case(result):
    error = segxai(*COMMAND, "--threshold", "0.4", "--out", "r.h5", "--append").error
    assert error.startswith(CASE + "target threshold")


def test_append_adds_more_instances(case, unbroken):
    command = (*COMMAND, "--out", "r.h5")
    assert segxai(*command, "--instances", "3").status == 0
    first = hdf5.runs(Path("r.h5"))[RUN]
    assert "give --append" in segxai(*command, "--instances", "1").error
    assert segxai(*command, "--instances", "1", "--append", "--batch", "2").status == 0
    assert hdf5.finished(Path("r.h5"), RUN) == {1, 3}
    second = hdf5.runs(Path("r.h5"))[RUN]
    assert second["labels"] == [1, 3]
    assert {name: second[name] for name in ("started", "compute")} == {
        name: first[name] for name in ("started", "compute")
    }
    (again,) = (one["compute"] for one in second["resumed"])
    assert (again["batch"], again["device"]) == (2, "cpu")
    assert segxai(*command, "--append").status == 0
    assert hdf5.runs(Path("r.h5"))[RUN]["labels"] == "all"
    assert_same(snapshot("r.h5"), snapshot(unbroken))


def test_the_order_of_instances_is_no_difference(case):
    command = (*COMMAND, "--out", "r.h5")
    assert segxai(*command, "--instances", "4,3").status == 0
    assert "nothing left to do" in segxai(*command, "--instances", "3,4,3").err


def test_overwrite_replaces_the_file(result):
    done = segxai(*COMMAND, "--method", "gradient", "--out", "r.h5", "--overwrite")
    assert done.status == 0, done.err
    assert set(hdf5.runs(result)) == {"gradient-mean"}


def test_overwrite_computes_a_complete_run_again(result, unbroken):
    with h5py.File(result, "a") as file:
        file[f"attributions/{RUN}/map"][...] = 0
    assert segxai(*COMMAND, "--out", "r.h5", "--overwrite").status == 0
    assert_same(snapshot(result), snapshot(unbroken))


def test_a_class_level_run_is_complete_with_its_one_map(case, monkeypatch):
    command = (*COMMAND, "--method", "class_smoothgrad", "--out", "r.h5")
    assert segxai(*command).status == 0
    monkeypatch.setattr("segxai.pipeline.segment", None)
    assert "nothing left to do" in segxai(*command).err


@pytest.mark.parametrize(
    ("method", "aggregator", "score", "taken", "name"),
    [
        ("gradient", "mean", "logit", (), "gradient-mean"),
        ("gradient", "mean", "probability", (), "gradient-mean-probability"),
        ("gradcam++", None, "logit", (), "gradcam++"),
        ("gradcam++", None, "margin", (), "gradcam++-margin"),
        ("gradient", "mean", "logit", {"gradient-mean"}, "gradient-mean-2"),
        ("gradient", "mean", "logit", {"gradient-mean", "gradient-mean-2"}, "gradient-mean-3"),
        ("my/own", "a/b", "logit", (), "my-own-a-b"),
    ],
)
def test_the_name_of_a_run(method, aggregator, score, taken, name):
    asked = {"method": method, "aggregator": aggregator, "score": score}
    assert new_name(asked, {one: {} for one in taken}) == name


def test_the_default_file_is_named_after_plugin_and_case(case):
    assert segxai(*COMMAND).status == 0
    assert Path("toy_bright.h5").is_file()
    assert Path("toy_bright.png").is_file()
