"""The table of a result says of each instance what to mind."""

import re

from segxai.report.tables import instance_table
from segxai.store.hdf5 import open_result


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
