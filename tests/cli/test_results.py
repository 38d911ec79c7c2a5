"""Commands on a result: shown for a person and for programs, and run again."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.commandline import remove_maps, rows_of, segxai, snapshot

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
QUICK = ("--method", "gradient", "--aggregator", "mean")

pytestmark = pytest.mark.usefixtures("toys")

# --------------------------------------------------------------------------------------------- show


def test_show_prints_provenance_and_tables_for_a_person(result):
    segxai(*COMMAND, "--method", "gradcam++", "--append")
    done = segxai("show", "r.h5")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "plugin: name toy, package segxai-toy, version 1.2" in lines
    assert any(
        re.match(r"    role other, name other.nii.gz, sha256 [0-9a-f]{64}$", x) for x in lines
    )
    assert [line for line in lines if line.startswith("run ")] == [
        "run gradient-mean",
        "run gradcam++",
    ]
    assert "  layer: active" in lines
    assert "{" not in done.out
    assert len(rows_of(done.out)) == 8


def test_show_prints_one_run_or_json(result):
    segxai(*COMMAND, "--method", "gradcam++", "--append")
    assert "gradcam++" not in segxai("show", "r.h5", "--run", "gradient-mean").out
    shown = json.loads(segxai("show", "r.h5", "--json").out)
    assert shown["provenance"]["plugin"]["name"] == "toy"
    assert list(shown["runs"]) == ["gradient-mean", "gradcam++"]
    one = shown["runs"]["gradient-mean"]
    assert one["provenance"]["method"] == "gradient"
    assert [row["label"] for row in one["instances"]] == [1, 2, 3, 4]
    assert one["instances"][0]["volume_mm3"] == snapshot("r.h5")["instances/volume_mm3"][0]


def test_show_says_what_is_not_finished(result):
    assert "not finished" not in segxai("show", "r.h5").out
    remove_maps(result, "gradient-mean", 2, 4)
    with h5py.File(result, "a") as file:
        del file["summaries"]
    done = segxai("show", "r.h5")
    assert "not finished: 2, 4; repeat the run's command to continue" in done.out.splitlines()
    assert "no instance is finished yet" in done.out.splitlines()
    shown = json.loads(segxai("show", "r.h5", "--json").out)
    assert shown["runs"]["gradient-mean"]["unfinished"] == [2, 4]


def test_a_class_level_run_is_finished_with_its_one_map(case):
    assert segxai(*COMMAND, "--method", "class_gradcam++").status == 0
    assert "not finished" not in segxai("show", "r.h5").out


def test_show_draws_every_instance(result):
    done = segxai("show", "r.h5", "--png", "deep/er")
    names = [f"gradient-mean-{label}.png" for label in range(1, 5)]
    assert [line for line in done.out.splitlines() if line.startswith("picture")] == [
        f"picture: deep/er/{name}" for name in names
    ]
    for name in names:
        with Image.open(Path("deep/er", name)) as picture:
            assert min(picture.size) > 300
    assert json.loads(segxai("show", "r.h5", "--png", "deep/er", "--json").out)


def test_a_picture_of_a_flat_case(drawn, folder):
    command = ["run", "--plugin", "toy_flat", *QUICK, "--out", "r.h5"]
    done = segxai(*command)
    assert done.status == 0, done.err
    assert segxai("show", "r.h5", "--png", "maps").status == 0
    exported = segxai("export", "r.h5", "maps").out.splitlines()
    assert exported[0].endswith("labels.tif")


def test_a_closed_pipe_is_no_bug(result):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "segxai", "show", "r.h5"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


# -------------------------------------------------------------------------------------------- rerun

RERUNS = {
    "gradient": QUICK,
    "smoothgrad": ("--aggregator", "mean", "--samples", "2", "--seed", "3", "--noise-unit", "p99"),
    "signed max": ("--samples", "1", "--noise", "0.02", "--noise-unit", "absolute"),
    "estimate": ("--samples", "1", "--rows", "5", "--instances", "3,4"),
    "cut": (*QUICK, "--crop", "2", "--score", "margin", "--threshold", "0.4", "--min-volume", "9"),
    "mask": (*QUICK, "--instances", "mask.nii.gz", "--split"),
    "heat map": ("--method", "gradcam++", "--layer", "features", "--class", "rest"),
    "class": ("--method", "class_gradcam++"),
    "reference": (*QUICK, "--reference", "mask.nii.gz"),
    "plugin's": ("--method", "toy_image"),
}


def differences(text):
    """The words of each instance of a printed comparison."""
    return {row[0]: row[1:] for row in rows_of(text)}


@pytest.mark.filterwarnings("default:Grad-CAM:UserWarning")
@pytest.mark.parametrize("options", RERUNS.values(), ids=RERUNS)
def test_a_rerun_agrees_with_every_kind_of_run(case, options):
    assert segxai(*COMMAND, *options).status == 0
    before = Path("r.h5").read_bytes()
    done = segxai("rerun", "r.h5")
    assert done.status == 0, done.err
    found = differences(done.out)
    assert found
    assert all(words == ["0.0e+00", "yes"] for words in found.values())
    assert "warning: " not in done.err.replace("warning: Grad-CAM", "")
    assert Path("r.h5").read_bytes() == before


def test_a_rerun_finds_what_was_tampered_with(result):
    with h5py.File(result, "a") as file:
        run = file["attributions/gradient-mean"]
        start, stop = run["map_range"][run["label"][()].tolist().index(2)]
        run["map"][start] += 1e-3 * np.abs(run["map"][start:stop]).max()
    done = segxai("rerun", "r.h5")
    assert done.status == 1
    found = differences(done.out)
    assert found["2"] == ["1.0e-03", "NO"]
    assert [found[label][-1] for label in "134"] == ["yes"] * 3


def test_a_rerun_misses_an_instance_that_is_not_found_again(result):
    with h5py.File(result, "a") as file:
        for part in ("attributions", "summaries"):
            labels = file[f"{part}/gradient-mean/label"]
            labels[...] = np.where(labels[()] == 4, 9, labels[()])
    done = segxai("rerun", "r.h5")
    assert done.status == 1
    assert differences(done.out)["9"] == ["not", "found", "again", "NO"]


def test_a_rerun_of_an_unfinished_run_compares_what_is_there(result):
    remove_maps(result, "gradient-mean", 1)
    done = segxai("rerun", "r.h5")
    assert done.status == 0
    assert set(differences(done.out)) == {"2", "3", "4"}


def test_a_rerun_finds_the_files_elsewhere(result):
    Path("scans/a").mkdir(parents=True)
    Path("bright.nii.gz").rename("scans/a/bright.nii.gz")
    Path("other.nii.gz").rename("scans/other.nii.gz")
    assert segxai("rerun", "r.h5", "--images", "scans").status == 0


def test_a_rerun_of_the_embedded_case_needs_no_file(folder):
    assert segxai("run", "--plugin", "toy", *QUICK, "--out", "r.h5").status == 0
    assert segxai("rerun", "r.h5").status == 0


def test_a_rerun_says_what_is_not_as_it_was(result):
    with h5py.File(result, "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored["versions"]["torch"] = "1.0"
        file.attrs["provenance"] = json.dumps(stored)
    done = segxai("rerun", "r.h5")
    assert done.status == 0
    assert "warning: versions torch is '1.0' in the file, " in done.err


def test_a_rerun_with_other_weights_is_refused(result):
    with h5py.File(result, "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored["weights"] = {"name": "mine.pt", "sha256": "abc"}
        file.attrs["provenance"] = json.dumps(stored)
    error = segxai("rerun", "r.h5").error
    assert "the run used the weights mine.pt (sha256 abc)" in error
    assert "give the file with --checkpoint" in error
