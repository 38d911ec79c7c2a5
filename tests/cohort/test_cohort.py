"""A cohort: every case is run, whatever becomes of another, and the tables say so."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from segxai import SegxaiError, tabulate
from segxai.cohort.cases import cases_of, read_lines
from tests.commandline import draw_nothing, make_case, segxai, write_nifti, write_reference
from tests.toy.segxai_toy import SHAPE, Toy, picture

COHORT = ("cohort", "c.csv", "--plugin", "toy", "--method", "gradient", "--aggregator", "mean")
TWO = ("one", "two")


def write_cohort(*, bad=True):
    """Cases of all kinds: two of a patient, without a reference, without objects; and bad ones."""
    make_case(Path())
    write_reference("ref.nii.gz")
    write_nifti("empty.nii.gz", picture(balls=())[0])
    write_nifti("nothing.nii.gz", np.zeros(SHAPE, np.uint8))
    Path("corrupt.nii.gz").write_bytes(b"no NIfTI")
    lines = [
        "case,patient,bright,other,reference,centre",
        "a,one,bright.nii.gz,other.nii.gz,ref.nii.gz,Basel",
        "b,one,other.nii.gz,bright.nii.gz,ref.nii.gz,Basel",
        "c,two,bright.nii.gz,other.nii.gz,,Bern",
        "d,three,empty.nii.gz,other.nii.gz,nothing.nii.gz,=Bern",
        "e,four,bright.nii.gz,other.nii.gz,nothing.nii.gz,Bern",
    ]
    if bad:
        lines += [
            "f,five,corrupt.nii.gz,other.nii.gz,ref.nii.gz,Bern",
            "g,six,bright.nii.gz,other.nii.gz,gone.nii.gz,Bern",
        ]
    Path("c.csv").write_text("\n".join(lines) + "\n")


def keep_cases(names):
    """Leave out the lines of all other cases."""
    head, *lines = Path("c.csv").read_text().splitlines()
    Path("c.csv").write_text("\n".join([head, *(one for one in lines if one[0] in names)]) + "\n")


@pytest.fixture
def cohort(folder, toys):
    write_cohort()
    return folder


@pytest.fixture
def good(folder, toys):
    write_cohort(bad=False)
    return folder


def table_of(folder):
    return pd.read_parquet(Path(folder) / "instances.parquet")


def test_what_became_of_each_case(cohort):
    done = segxai(*COHORT, "--out", "d", "--controls", "matched")
    assert done.status == 1
    assert "2 of 7 cases failed" in done.err
    cases = pd.read_csv("d/cases.csv", keep_default_na=False).set_index("case")
    statuses = {"a": "done", "b": "done", "c": "done", "d": "empty", "e": "done"}
    assert cases["status"].to_dict() == {**statuses, "f": "failed", "g": "failed"}
    assert "corrupt.nii.gz" in cases["message"]["f"]
    assert "gone.nii.gz not found" in cases["message"]["g"]
    assert cases["centre"]["a"] == "Basel"
    assert cases["centre"]["d"] == "'=Bern"  # no formula
    assert cases["FP"]["e"] == "4.0"
    assert "the reference is empty: no controls are placed" in cases["warnings"]["e"]
    assert "there is no reference" in cases["warnings"]["c"]
    table = table_of("d")
    assert set(table["case"]) == set("abce")
    assert table.groupby("case")["patient"].first().to_dict() == {
        "a": "one", "b": "one", "c": "two", "e": "four",
    }  # fmt: skip
    assert set(table[table["case"] == "c"]["outcome"]) == {""}
    assert set(table[table["case"] == "a"]["outcome"]) == {"TP", "FP", "FN", "TN"}
    pd.testing.assert_frame_equal(
        table.drop(columns="centre"), tabulate([f"d/{case}.h5" for case in "abcde"])
    )


def test_serial_processes_and_shards_agree(good):
    keep_cases("acd")
    assert segxai(*COHORT, "--out", "serial").status == 0
    assert segxai(*COHORT, "--out", "two", "--jobs", "2", "--memory", "4").status == 0
    for number in (2, 1):
        assert segxai(*COHORT, "--out", "shards", "--shard", f"{number}/2").status == 0
        if number == 2:
            assert "lacks shard 1 of 2" in segxai("join", "shards").error
    assert segxai("join", "shards").status == 0
    for name in ("two", "shards"):
        pd.testing.assert_frame_equal(table_of(name), table_of("serial"), rtol=1e-5)
        same = [pd.read_csv(f"{one}/scores.csv") for one in (name, "serial")]
        pd.testing.assert_frame_equal(*same)
        cases = [
            pd.read_csv(f"{one}/cases.csv").drop(columns="seconds") for one in (name, "serial")
        ]
        pd.testing.assert_frame_equal(*cases)


def test_a_cohort_goes_on_where_it_stopped(good):
    keep_cases("ab")
    assert segxai(*COHORT, "--out", "d").status == 0
    before = {path.name: path.stat().st_mtime_ns for path in Path("d").glob("*.h5")}
    Path("d/b.h5").unlink()
    done = segxai(*COHORT, "--out", "d")
    assert done.status == 0
    after = {path.name: path.stat().st_mtime_ns for path in Path("d").glob("*.h5")}
    assert {name for name in after if after[name] != before[name]} == {"b.h5"}
    assert "a: nothing left to do" in done.err


def test_duplicates_and_missing_columns_are_refused_before_anything_runs(good):
    text = Path("c.csv").read_text()
    Path("c.csv").write_text(text + text.splitlines()[1].replace("a,", "A,") + "\n")
    assert "has the case 'A' twice" in segxai(*COHORT, "--out", "d").error
    Path("c.csv").write_text(text.replace("other,ref", "second,ref"))
    assert "the cohort has no column 'other'" in segxai(*COHORT, "--out", "d").error
    Path("c.csv").write_text(text.replace("c,two,bright.nii.gz", "c,two,"))
    assert "the case 'c' has no file for bright" in segxai(*COHORT, "--out", "d").error
    assert not list(Path().glob("d/*.h5"))
    Path("c.csv").write_text("")
    assert "cannot be read as a CSV" in segxai(*COHORT, "--out", "d").error
    assert "--shard 3/2: give one part" in segxai(*COHORT, "--shard", "3/2").error
    assert "--jobs 0: give" in segxai(*COHORT, "--jobs", "0").error
    for weights in ("--checkpoint", "--fold"):
        assert segxai(*COHORT, weights, "w.pt", "--out", "d").error == "no checkpoint at w.pt"
    both = (*COHORT, "--jobs", "2", "--scheduler", "tcp://127.0.0.1:1")
    assert "give one of them" in segxai(*both).error


def test_without_patients_each_case_is_its_own(good):
    text = Path("c.csv").read_text().replace("case,patient", "case,whom")
    Path("c.csv").write_text("\n".join(text.splitlines()[:3]))
    done = segxai(*COHORT, "--out", "d")
    assert "no column patient: each case is a patient of its own" in done.err
    assert table_of("d").groupby("case")["patient"].unique().map(list).to_dict() == {
        "a": ["a"], "b": ["b"],
    }  # fmt: skip
    assert set(table_of("d")["whom"]) == {"one"}


def test_paths_start_at_the_csv(good):
    table = read_lines(Path("c.csv"))
    first, *_ = cases_of(table, ("bright", "other"), Path("x/y"))
    assert first.images["bright"] == Path("x/y/bright.nii.gz").absolute()
    assert first.carried == {"centre": "Basel"}
    with pytest.raises(SegxaiError, match="no column 'flair'"):
        cases_of(table, ("flair",), Path())


def test_each_case_has_weights_and_regions_of_its_own(folder, monkeypatch):
    """As folds and atlases have them: files of the case, on paths of the CSV."""
    draw_nothing(monkeypatch)
    make_case(folder)
    network = Toy()
    save_file(network.state_dict(), "one.safetensors")
    with torch.no_grad():
        network.logits.bias[1] += 1
    save_file(network.state_dict(), "two.safetensors")
    halves = np.ones(SHAPE, np.uint8)
    halves[9:] = 2
    write_nifti("halves.nii.gz", halves)
    Path("halves.json").write_text('{"1": "left", "2": "right"}')
    write_nifti("third.nii.gz", halves + 1)  # no names beside it
    Path("c.csv").write_text(
        "case,bright,other,checkpoint,regions\n"
        "a,bright.nii.gz,other.nii.gz,one.safetensors,halves.nii.gz\n"
        "b,bright.nii.gz,other.nii.gz,two.safetensors,third.nii.gz\n"
        "c,bright.nii.gz,other.nii.gz,one.safetensors,\n"
    )
    own = ("--model", "tests.toy.segxai_toy:Toy", "--channels", "bright,other", "--classes")
    how = (*own, "rest,ball", "--method", "gradient", "--aggregator", "mean")
    done = segxai("cohort", "c.csv", *how, "--out", "d")
    assert done.status == 0, done.err
    table = table_of("d")
    shas = {name: sha256(Path(f"{name}.safetensors").read_bytes()).hexdigest() for name in TWO}
    of_cases = table.groupby("case")["weights"].first()
    for case, name in zip("abc", ("one", "two", "one"), strict=True):
        assert shas[name].startswith(of_cases[case])
    by_hand = ("run", *how, "bright.nii.gz", "other.nii.gz", "--checkpoint", "two.safetensors")
    assert segxai(*by_hand, "--out", "b.h5").status == 0
    columns = ["mean_probability", "bright_peak", "volume_mm3"]
    own = {case: table[table["case"] == case].reset_index(drop=True) for case in "abc"}
    pd.testing.assert_frame_equal(own["b"][columns], tabulate("b.h5")[columns])
    pd.testing.assert_frame_equal(own["a"][columns], own["c"][columns])
    assert (own["b"]["mean_probability"] > own["c"]["mean_probability"]).all()
    is_left = own["a"]["centroid_x_mm"] < 9
    assert own["a"]["region"].tolist() == np.where(is_left, "left", "right").tolist()
    is_left = own["b"]["centroid_x_mm"] < 9
    assert own["b"]["region"].tolist() == np.where(is_left, "2", "3").tolist()
    assert set(own["c"]["region"]) == {""}
