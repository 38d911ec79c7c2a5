"""What a stranger may give to any experiment: each ends in one line, or says what is missing."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest

from segxai import SegxaiError, open_result
from segxai.experiments.cases import cases_in
from segxai.pipeline import explain_case
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.tables.domains import tabulate
from segxai.tables.scores import scores_of
from tests.commandline import segxai
from tests.toy.segxai_toy import ADAPTERS

EXPERIMENTS = ("context", "synthetic", "modalities", "outcomes", "sizes", "flags")
ON_TABLES = ("outcomes", "sizes", "flags")


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


class Said:
    """A progress display that keeps what is said."""

    def __init__(self):
        self.lines = []

    def begin(self, what, total, done=0.0):
        pass

    def advance(self, amount):
        pass

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Two pictures in which nothing is drawn: in one something is predicted, in `b` nothing."""
    folder = tmp_path_factory.mktemp("healthy")
    origin = {"name": "toy_flat", "version": "1"}
    adapter = replace(ADAPTERS["toy_flat"], name="toy_flat", origin=origin)
    for name, threshold in (("a", 0.5), ("b", 0.9999)):
        case = adapter.embedded_case()
        case = replace(case, name=name, reference=np.zeros(case.grid.shape, dtype=bool))
        options = Options.of(
            method="gradient",
            aggregator="mean",
            score=("logit", "probability"),
            threshold=threshold,
        )
        explain_case(prepare(adapter, case, options), folder / f"{name}.h5", may_be_empty=True)
    return folder


def test_a_picture_without_lesions_is_scored_as_a_volume_is(healthy):
    table = tabulate(healthy)
    assert set(table["outcome"]) == {"FP"}
    assert set(table["file"]) == {"a.h5"}
    with open_result(healthy / "a.h5") as one, open_result(healthy / "b.h5") as other:
        scores = scores_of([one, other])
    assert set(scores["subset_by"]) == {"all"}  # no size nor load in mm3
    a, b, both = (scores[scores["match"] == "any"].iloc[n] for n in range(3))
    assert (a["predicted_fp"], a["reference"], a["dice"], a["fdr_of_predicted"]) == (4, 0, 0, 1)
    assert np.isnan([a["tpr_of_reference"], a["f1"], b["dice"], b["fdr_of_predicted"]]).all()
    assert (both["scope"], both["scans"], both["predicted"]) == ("cohort", 2, 4)


@pytest.mark.parametrize("name", ON_TABLES)
def test_an_empty_result_among_others_is_said(name, healthy, tmp_path):
    done = segxai("experiment", name, healthy, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "nothing is predicted or drawn in 1 of 2 results: b.h5" in done.err
    assert {f"{name}.csv", f"{name}.png", f"{name}.txt"} <= {one.name for one in tmp_path.iterdir()}
    if name == "flags":
        assert "0 TP and 4 FP of 1 patient in 2 scans" in done.out
        assert "cannot tell: 4 FP of 1 patient, and below" in done.out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_empty_results_alone_are_refused(name, healthy, tmp_path):
    done = segxai("experiment", name, healthy / "b.h5", "--out", tmp_path / "new")
    assert "nothing is predicted or drawn in 1 of 1 result, b.h5: there is nothing" in done.error
    assert not (tmp_path / "new").exists()


def test_an_empty_result_gets_no_flag(healthy, tmp_path):
    numbers = {"mean": [0.0], "scale": [1.0], "coefficients": [1.0], "intercept": 0.0}
    known = {"kind": "segxai flag", "features": ["log_size"], "threshold": 0.0, **numbers}
    (tmp_path / "m.json").write_text(json.dumps(known))
    out = tmp_path / "t.csv"
    done = segxai("flag", healthy / "b.h5", "--with", tmp_path / "m.json", "--out", out)
    assert done.status == 0, done.err
    assert {"flag_log_odds", "flagged"} <= set(pd.read_csv(out))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_pictures_and_volumes_together_are_refused(name, healthy, toy_result, tmp_path):
    given = (toy_result, healthy / "a.h5")
    done = segxai("experiment", name, *given, "--out", tmp_path / "new")
    assert done.error == "a.h5 has 2 dimensions and r.h5 3: give results of one kind"
    assert not (tmp_path / "new").exists()


def test_what_a_folder_of_a_cohort_lacks_is_said(toy_result, tmp_path):
    shutil.copy(toy_result, tmp_path / "one.h5")
    lines = ["case,status,file", "one,done,one.h5", "two,done,two.h5", "three,failed,"]
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    said = Said()
    (case,) = cases_in([tmp_path], said)
    assert case.path.name == "one.h5"
    assert said.lines == [f"2 of 3 cases have no result in {tmp_path}: two, three"]
    (tmp_path / "cases.csv").write_text("\n".join(lines[:2]))
    whole = Said()
    cases_in([tmp_path], whole)
    assert not whole.lines


def test_what_other_results_left_in_the_folder_is_said(healthy, toy_result, tmp_path):
    assert segxai("experiment", "sizes", healthy / "a.h5", "--out", tmp_path).status == 0
    done = segxai("experiment", "sizes", toy_result, "--out", tmp_path)
    assert f"{tmp_path} also keeps what was measured in 1 other result" in done.err
    again = segxai("experiment", "outcomes", healthy / "a.h5", "--out", tmp_path)
    assert "also keeps" not in again.err  # another experiment's files have names of their own


def test_models_with_other_channels_have_panels_of_their_own(toy_result, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(toy_result, other)
    with h5py.File(other, "a") as file:
        runs = [f"{kind}/{run}" for kind in ("attributions", "summaries") for run in file[kind]]
        for group in ("input", *runs):
            file[group]["channel"][...] = ["bright", "t1"]
        known = json.loads(file.attrs["provenance"])
        known["plugin"]["name"] = "another"
        file.attrs["provenance"] = json.dumps(known)
    done = segxai("experiment", "sizes", toy_result, other, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "UserWarning" not in done.err
    assert "another gradient mean, logit, t1: cannot tell from 4 lesions" in done.out


@pytest.mark.parametrize("name", ["context", "synthetic"])
def test_a_model_of_other_weights_is_refused(name, toy_result, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(toy_result, other)
    with h5py.File(other, "a") as file:
        known = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps(
            {**known, "weights": {"name": "trained.pt", "sha256": "ab" * 32}}
        )
    done = segxai("experiment", name, other, "--out", tmp_path / "out")
    assert "the run used the weights trained.pt (sha256 abab" in done.error
    assert "not weights that the model makes itself; give the file with --checkpoint" in done.error


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_file_that_is_no_result_and_an_out_that_is_a_file_are_refused(name, toy_result, tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no result")
    done = segxai("experiment", name, text, "--out", tmp_path / "new")
    assert "text.h5 is not a readable HDF5 file" in done.error
    missing = segxai("experiment", name, tmp_path / "none", "--out", tmp_path / "new")
    assert missing.error == f"no result file {tmp_path / 'none'}"
    assert not (tmp_path / "new").exists()
    assert "cannot make the folder" in segxai("experiment", name, toy_result, "--out", text).error


def test_a_broken_list_of_cases_is_said(toy_result, tmp_path):
    shutil.copy(toy_result, tmp_path / "one.h5")
    (tmp_path / "cases.csv").write_text("nothing\n1\n")
    said = Said()
    cases_in([tmp_path], said)
    assert "cannot be read: whether results are missing is not known" in said.lines[0]
    with pytest.raises(SegxaiError, match="no result file"):
        cases_in([tmp_path / "nowhere"])
