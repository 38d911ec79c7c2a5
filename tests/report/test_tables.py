"""The table of a result says of each instance what to mind."""

import re

import pytest

from segxai.report.tables import _reservations, instance_table
from segxai.store.hdf5 import open_result
from tests.commandline import segxai


def test_notes_say_what_to_mind(three_methods):
    with open_result(three_methods) as tree:
        rows = {row["label"]: row for row in instance_table(tree, "smoothgrad-signed_max")}
        heat_map = instance_table(tree, "gradcam++")[0]
    assert [rows[label]["estimate"] for label in (1, 2)] == [True, False]
    words = r"estimate from 30 of 40 rows, error about \d+% at the peak, \d+% anywhere; .*"
    assert re.fullmatch(words, rows[1]["note"])
    assert rows[1]["note"].endswith("% of the energy cut off")
    assert rows[5]["outcome"] == "FN"
    assert rows[5]["note"].startswith("missed by the model; ")
    assert heat_map["note"] == ""


@pytest.mark.filterwarnings("ignore:instance .. 11 noisy copies")
def test_a_map_that_never_came_within_its_tolerance_says_so(case, toys, monkeypatch):
    monkeypatch.setattr("segxai.methods.options.MOST_COPIES", 11)
    words = ("--samples", "auto", "--tolerance", "1e-6", "--aggregator", "mean", "--out", "r.h5")
    done = segxai("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", *words)
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        notes = [row["note"] for row in instance_table(tree, "smoothgrad-mean")]
    assert notes == ["11 noisy copies: not within the tolerance"] * 4


def test_approximations_and_lower_precision_say_how_far_they_are_off():
    def note(**facts):
        return _reservations({"estimate": False, **facts}, "")["note"]

    signs = "12 signs open at up to 29% of the map's peak"
    low_rank = note(rank=8, row_error=0.0123, open_signs=12, open_sign_size=0.29)
    assert low_rank == f"low rank: rows within about 1.2% of their peak, {signs}"
    lower = note(precision="tf32", precision_error=0.0012, precision_rows=29)
    assert lower == "tf32: 29 rows compared, off by up to 0.1%"
    before = note(rank=4, row_error=0.001, precision="bfloat16", precision_error=0.006)
    words = "bfloat16: few rows compared, off by up to 0.6%"
    assert before == f"low rank: rows within about 0.1% of their peak; {words}"
    assert note(rank=0, row_error=0.0, open_signs=0, open_sign_size=0.0) == ""
