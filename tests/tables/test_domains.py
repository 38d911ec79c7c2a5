"""The table of explained domains: each number computed again in a slower way."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from segxai import SegxaiError, maps, open_result, tabulate
from segxai.store.schema import domain_of
from tests.commandline import segxai, snapshot, write_reference

FILES = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz")
RUN = ("run", "--plugin", "toy", *FILES, "--method", "gradient", "--out", "r.h5")


@pytest.fixture(scope="module")
def table(three_methods):
    return tabulate(three_methods)


def row_of(table, run, label):
    (row,) = table[(table["run"] == run) & (table["label"] == label)].to_dict("records")
    return row


def test_a_row_for_each_map_of_each_run(three_methods, table):
    with open_result(three_methods) as tree:
        runs = list(tree["attributions"].children)
        wanted = {(run, label) for run in runs for label in maps(tree, run)}
    found = list(zip(table["run"], table["label"], strict=True))
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert set(table["file"]) == {"r.h5"}  # no folder: it can name a patient
    (whole,) = table[table["label"] == 0].to_dict("records")
    assert (whole["class"], whole["outcome"]) == ("ball", "")
    assert set(table["unit"]) == {"logit per input unit", "arbitrary"}


def test_numbers_of_maps_agree_with_loops(three_methods, table):
    run = "smoothgrad-signed_max"
    with open_result(three_methods) as tree:
        for label, stored in maps(tree, run).items():
            stored.load()
            row = row_of(table, run, label)
            shape = tree["segmentation/labels"].shape
            domain = [tuple(one) for one in np.argwhere(domain_of(stored, shape)).tolist()]
            origin = [int(stored[axis][0]) for axis in "xyz"]
            inside = total = 0.0
            for channel in ("bright", "other"):
                values = stored["map"].sel(channel=channel).values
                best = {"peak": (0.0, None), "trough": (0.0, None)}
                for place in np.ndindex(values.shape):
                    voxel, value = tuple(np.add(place, origin).tolist()), float(values[place])
                    total += abs(value)
                    inside += abs(value) * (voxel in domain)
                    if value > best["peak"][0]:
                        best["peak"] = (value, voxel)
                    if value < best["trough"][0]:
                        best["trough"] = (value, voxel)
                for name, (value, voxel) in best.items():
                    assert row[f"{channel}_{name}"] == pytest.approx(value)
                    nearest = min(np.linalg.norm(np.subtract(voxel, one)) for one in domain)
                    assert row[f"{channel}_{name}_distance_mm"] == pytest.approx(nearest)
            assert row["inside_share"] == pytest.approx(inside / total, rel=1e-6)


def test_numbers_of_domains_agree_with_the_file(three_methods, table):
    file = snapshot(three_methods)
    reference = file["segmentation/reference"] != 0
    for label, voxels in zip(file["instances/label"], file["instances/voxels"], strict=True):
        row = row_of(table, "smoothgrad-signed_max", label)
        inside = file[f"attributions/smoothgrad-signed_max/{label}/domain"]
        assert row["voxels"] == row["volume_mm3"] == voxels == inside.sum()
        place = file["instances/label"].tolist().index(label)
        centre = file["instances/centroid_mm"][place]
        np.testing.assert_allclose([row[f"centroid_{axis}_mm"] for axis in "xyz"], centre)
        assert row["mean_probability"] == file["instances/mean_probability"][place]
        where = np.argwhere(file["segmentation/labels"] == label)
        if len(where) == voxels:  # no other instance on top of it
            chosen = file["segmentation/probability"][0][tuple(where.T)]
            assert row["max_probability"] == chosen.max()
            assert bool(row["reference_labels"]) == reference[tuple(where.T)].any()
    assert row["load_from"] == "reference"
    assert row["lesion_load_mm3"] == reference.sum()
    assert (row["outcome"], row["reference_iou"]) == ("FN", 1.0)


def test_a_lesion_is_missed_or_found_too_small(case, toys):
    """One with voxels above the threshold in too small a component is told from one without."""
    write_reference("reference.nii.gz")
    assert segxai(*RUN).status == 0
    before = tabulate("r.h5")
    assert before[before["outcome"] == "FN"]["kind"].tolist() == ["missed"]
    smallest = before[before["outcome"] == "TP"]["voxels"].min()
    words = ("--min-volume", str(smallest + 0.5), "--overwrite")
    assert segxai(*RUN, *words).status == 0
    kinds = tabulate("r.h5").query("outcome == 'FN'")["kind"].tolist()
    assert kinds == ["missed"] or "too small" in kinds


def test_the_rule_of_matching_decides(case, toys):
    write_reference("reference.nii.gz")
    assert segxai(*RUN).status == 0
    loose = tabulate("r.h5")
    assert segxai(*RUN, "--match", "iou:1", "--overwrite").status == 0
    strict = tabulate("r.h5")
    hits = loose[loose["outcome"] == "TP"]
    assert set(loose["match"]) == {"any"}
    assert set(strict["match"]) == {"iou:1"}
    exact = set(hits[hits["reference_iou"] == 1]["label"])
    assert set(strict[strict["outcome"] == "TP"]["label"]) == exact != set(hits["label"])
    assert "not matched" in strict[strict["outcome"] == "FN"]["kind"].tolist()
    with open_result("r.h5") as tree:
        counts = json.loads(tree.attrs["provenance"])["matches"]
    assert counts["iou:1"]["predicted_tp"] == len(exact)
    assert "--overwrite" in segxai(*RUN).error  # another rule is another case
    assert "0.0e+00" in segxai("rerun", "r.h5").out
    assert "unknown rule 'best'" in segxai(*RUN, "--match", "best").error


def test_folders_files_and_formats(case, toys):
    write_reference("reference.nii.gz")
    Path("d").mkdir()
    for name in ("d/b.h5", "d/a.h5"):
        assert segxai(*RUN[:-1], name).status == 0
    whole = tabulate("d")
    assert whole["file"].unique().tolist() == ["a.h5", "b.h5"]
    pd.testing.assert_frame_equal(tabulate(["d/a.h5", "d", "d/b.h5"]), whole)
    assert segxai("table", "d", "--out", "t.csv").out == f"table: t.csv ({len(whole)} rows)\n"
    assert segxai("table", "d").out == Path("t.csv").read_text()
    assert segxai("table", "d", "--out", "t.parquet").status == 0
    pd.testing.assert_frame_equal(pd.read_parquet("t.parquet"), whole)
    read = pd.read_csv("t.csv", keep_default_na=False, na_values={"reference_iou": ""})
    assert read["bright_peak"].tolist() == whole["bright_peak"].tolist()
    assert "t.csv exists: name another --out" in segxai("table", "d", "--out", "t.csv").error
    assert segxai("table", "d", "--out", "t.csv", "--overwrite").status == 0
    assert "--out t.txt: name a file" in segxai("table", "d", "--out", "t.txt").error
    assert "no result file (.h5) in" in segxai("table", ".").error


def test_an_older_result_leaves_empty_what_it_does_not_know(three_methods, folder):
    Path("old.h5").write_bytes(three_methods.read_bytes())
    with h5py.File("old.h5", "a") as file:
        for name in ("predicted", "reference", "entropy"):
            del file[f"segmentation/{name}"]
    table = tabulate("old.h5")
    assert table["mean_entropy"].isna().all()
    assert set(table["kind"]) == set(table["reference_labels"]) == {""}
    row = row_of(table, "smoothgrad-signed_max", 1)
    volumes = table[(table["run"] == row["run"]) & (table["outcome"] != "FN")]["voxels"]
    assert (row["load_from"], row["lesion_load_mm3"]) == ("prediction", volumes.sum())


def test_a_result_without_maps_is_an_empty_table(three_methods, folder):
    Path("new.h5").write_bytes(three_methods.read_bytes())
    with h5py.File("new.h5", "a") as file:
        del file["attributions"], file["summaries"]
    table = tabulate("new.h5")
    assert table.empty
    assert {"case", "label", "outcome", "inside_share", "note"} <= set(table)


def test_nothing_is_not_a_table(folder):
    with pytest.raises(SegxaiError, match="no result file"):
        tabulate([])


def test_every_column_is_documented(table):
    page = (Path(__file__).parents[2] / "docs/reference/table.md").read_text()
    page, _, _ = page.partition("## Tables of a cohort")
    listed = re.findall(r"`([\w]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    listed += ["area_px", "lesion_load_px"]
    channels = {"bright", "other", "heat"}
    for name in table:
        channel, _, rest = name.partition("_")
        assert (f"CHANNEL_{rest}" if channel in channels else name) in listed, name
    shown = {f"bright_{name.removeprefix('CHANNEL_')}" if "CHANNEL" in name else name
             for name in listed}  # fmt: skip
    elsewhere = {"area_px", "lesion_load_px", "noisy_probability_deviation"}
    assert shown - set(table) == elsewhere


def test_how_far_the_score_spreads_over_noisy_copies(three_methods, table):
    rows = table[table["run"] == "smoothgrad-signed_max"].set_index("label")
    with open_result(three_methods) as tree:
        found = maps(tree, "smoothgrad-signed_max")
        stored = {label: found.facts(label)["score_deviation"] for label in found}
    assert rows["noisy_logit_deviation"].to_dict() == stored
    assert (rows["samples"] == 2).all()
    assert (rows["noisy_logit_deviation"] > 0).all()
    others = table[table["run"] != "smoothgrad-signed_max"]  # no noise, or a single copy
    assert others["noisy_logit_deviation"].isna().all()


def test_what_an_older_result_does_not_know_is_empty(three_methods, tmp_path):
    """A file without the spread of scores still opens."""
    old, new = tmp_path / "r.h5", b'"score_deviation"'
    content = Path(three_methods).read_bytes()
    old.write_bytes(content)
    with h5py.File(old, "a") as file:
        facts = file["attributions/smoothgrad-signed_max/facts"]
        text = facts[()].tobytes()
        assert new in text
        facts[...] = np.frombuffer(text.replace(new, b'"other_name_here"'), np.uint8)
    found = tabulate(old)
    assert "noisy_logit_deviation" not in found
    assert len(found) == len(tabulate(three_methods))
