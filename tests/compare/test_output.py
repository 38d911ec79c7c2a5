"""`segxai compare` at the shell: its files, what it prints, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from segxai.load.volumes import file_sha256
from tests.commandline import segxai
from tests.compare.results import block, case_of, how, noise, write

TABLES = ["compare.csv", "compare.parquet", "summary.csv", "compare.json"]


@pytest.fixture
def results(folder):
    write("a.h5", {"r": (how(), noise(1)), "cam": (how(method="=cam"), noise(2))})
    write("b.h5", {"r": (how(), noise(3))}, plugin="swin")
    return folder


def test_the_command_writes_tables_and_says_what_they_mean(results):
    done = segxai("compare", "a.h5", "b.h5", "--out", "out")
    assert (done.status, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line.startswith("out/")][:4] == [
        f"out/{name}" for name in TABLES
    ]
    assert "instances are matched by the overlap of their domains" in done.out
    table = pd.read_csv("out/compare.csv")
    again = pd.read_parquet("out/compare.parquet")
    assert len(table) == len(again)
    assert again["value"].tolist() == pytest.approx(table["value"].tolist(), nan_ok=True)
    record = json.loads(Path("out/compare.json").read_text())
    assert set(record["runs"]) == {"net gradient mean", "net =cam mean", "swin gradient mean"}
    assert record["files"]["c"][1] == {"place": "b.h5", "sha256": file_sha256(Path("b.h5"))}


def test_runs_are_chosen_and_the_rest_is_left_alone(results):
    segxai("compare", "a.h5", "b.h5", "--run", "r", "--out", "out")
    table = pd.read_csv("out/compare.csv")
    assert set(table["first"]) == {"net gradient mean", "swin gradient mean"}
    assert "unknown run 's'" in segxai("compare", "a.h5", "--run", "s", "--out", "out").error


def test_only_our_files_are_replaced(folder):
    shape = (9, 9, 9)
    small = {"case": case_of(shape), "domains": {1: block((3, 3, 3), shape)}}
    write("a.h5", {"r": (how(), noise(1))}, **small)
    write("b.h5", {"r": (how(), noise(3))}, plugin="swin", **small)
    words = ("compare", "a.h5", "b.h5", "--pictures", "0", "--out", "out")
    assert segxai(*words).status == segxai(*words).status == 0
    Path("out/summary.csv").write_text("mine")
    assert "out/summary.csv was not written by segxai" in segxai(*words).error
    assert segxai(*words, "--overwrite").status == 0


def test_comparing_imports_no_torch(results):
    code = "import sys, segxai.compare.output; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_file_is_one_line(results):
    assert segxai("compare", "a.h5", "none.h5", "--out", "out").error == "no result file none.h5"
