"""The verdicts on the paper's claims follow from the tables alone."""

import runpy
import sys

import numpy as np
import pandas as pd
import pytest

import observations as read
import others
import surroundings as around
from paper import CLAIMS
from segxai.statistics.ranks import datta_satten
from tables import Tables
from tests.compare.results import case_of, how, write
from tests.markdown import ROOT
from verdicts import Observation, verdict

SCRIPT = ROOT / "benchmarks" / "published" / "claims.py"


def seen(holds, n=5, **setting):
    return Observation(setting, "", n, holds)


@pytest.mark.parametrize(
    ("observations", "words"),
    [
        ([], "cannot tell (n = 0)"),
        ([seen(None, 2), seen(None, 1)], "cannot tell (n = 2)"),
        ([seen(True), seen(None)], "agrees"),
        ([seen(False), seen(None)], "disagrees"),
    ],
)
def test_what_all_observations_say_is_the_verdict(observations, words):
    assert verdict(observations) == words


def test_the_setting_that_decides_is_named():
    both = [
        seen(score == "probability", score=score, data=data)
        for score in ("logit", "probability")
        for data in ("one", "two")
    ]
    assert verdict(both) == "agrees only if score is probability"


def test_two_settings_are_named_where_one_does_not_decide():
    every = [
        seen((score, fill) == ("logit", "dark"), score=score, fill=fill)
        for score in ("logit", "probability")
        for fill in ("zero", "dark")
    ]
    assert verdict(every) == "agrees only if score is logit and fill is dark"


def test_alternatives_are_named_where_either_decides():
    every = [
        seen(score == "probability" or data == "patient", score=score, data=data)
        for score in ("logit", "probability")
        for data in ("patient", "one", "two")
    ]
    assert verdict(every) == "agrees only if score is probability or data is patient"


def test_many_alternatives_are_counted():
    every = [seen(own, data=str(number)) for number in range(8) for own in [number % 2 == 0]]
    assert verdict(every) == "agrees only in 4 of 8 settings"


def test_what_no_settings_explain_is_counted():
    same = [seen(True, fill="zero"), seen(False, fill="zero"), *[seen(True, fill="dark")] * 2]
    assert verdict(same) == "agrees only in 3 of 4 settings (always if fill is dark)"


# --- from tables to observations


def tables(folder, **named):
    for name, rows in named.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return Tables({folder: "here"})


def group(outcome, median, domains=3, score="logit", aggregator="signed_max", extreme="peak"):
    return {
        "model": "net", "aggregator": aggregator, "score": score, "channel": "flair",
        "extreme": extreme, "outcome": outcome, "median": median, "domains": domains,
    }  # fmt: skip


def holds(observations):
    return [one.holds for one in observations]


@pytest.mark.parametrize(
    ("medians", "expected"),
    [((1, 2, 3, 4), True), ((1, 3, 2, 4), False), ((1, 2, 3, 3), False)],
)
def test_peaks_rise_in_the_order_of_the_paper(tmp_path, medians, expected):
    rows = [group(name, value) for name, value in zip(read.ORDER, medians, strict=True)]
    assert holds(read.peaks_rise(tables(tmp_path, outcomes_groups=rows))) == [expected]


def test_an_order_with_an_outcome_missing_or_rare_is_not_told(tmp_path):
    rows = [group(name, k, domains=2 if name == "FN" else 9) for k, name in enumerate(read.ORDER)]
    (rare,) = read.peaks_rise(tables(tmp_path, outcomes_groups=rows))
    assert (rare.holds, rare.n) == (None, 2)
    (missing,) = read.peaks_rise(tables(tmp_path, outcomes_groups=rows[1:]))
    assert (missing.holds, missing.n) == (None, 0)


def test_troughs_fall_in_the_order_of_the_paper(tmp_path):
    rows = [group(name, -k, extreme="trough") for k, name in enumerate(read.ORDER, start=1)]
    assert holds(read.troughs_fall(tables(tmp_path, outcomes_groups=rows))) == [True]


def test_a_factor_is_that_of_medians(tmp_path):
    rows = [group("TN", 1), group("TP", 4)]  # without an FP or an FN, too
    (one,) = read.factor(3.5, 4.5)(tables(tmp_path, outcomes_groups=rows))
    assert (one.holds, one.text) == (True, "TP / TN 4")


@pytest.mark.parametrize(("patients", "expected"), [(10, [True]), (9, [None])])
def test_groups_differ_by_the_rank_sum_that_knows_patients(tmp_path, patients, expected):
    values, in_first = np.arange(40.0), np.arange(40) < 20
    statistic = datta_satten(values, in_first, np.arange(40) % 10).method
    about = {"model": "net", "channel": "flair", "extreme": "peak", "comparison": "raw"}
    about |= {"aggregator": "signed_max", "score": "logit", "patients": patients}
    rows = [{**about, "statistic": statistic, "p_holm": 0.04}] * 6
    rows += [{**about, "statistic": "Mann-Whitney U", "p_holm": 0.9}]
    assert holds(read.differ(tables(tmp_path, outcomes_effects=rows))) == expected


def test_a_lesion_is_compared_with_its_own_control(tmp_path):
    about = {"model": "net", "aggregator": "mean", "score": "logit", "channel": "flair"}
    rows = [
        {**about, "extreme": "peak", "case": "a", "label": label, "source": source, "kind": kind,
         "outcome": outcome, "value": value}
        for label, source, kind, outcome, value in (
            (1, None, None, "TP", 6.0), (2, None, None, "TP", 1.0), (3, None, None, "TP", 8.0),
            (7, 1, "matched", "TN", 2.0), (8, 2, "matched", "TN", 4.0),
            (9, 3, "matched", "TN", 2.0), (10, None, "sphere", "TN", 99.0),
        )
    ]  # fmt: skip
    (one,) = read.matched(tables(tmp_path, outcomes=rows))
    assert (one.holds, one.n, one.text) == (
        False,
        3,
        "TP / its control: median 3, above 1 in 2 of 3",
    )


def test_signs_are_those_of_the_means_of_lesions(tmp_path):
    rows = [
        {"model": "net", "aggregator": "mean", "score": "logit", "outcome": "TP", "case": "a",
         "label": label, "channel": channel, "region": region, "voxels": 10,
         "positive_sum": 3.0 if positive else 1.0, "negative_sum": -2.0}
        for label in (1, 2, 3)
        for channel, inside in (("flair", True), ("mprage", False))
        for region, positive in (("inside", inside), ("1-2", not inside), ("2-3", not inside))
    ]  # fmt: skip
    found = tables(tmp_path, modalities=rows)
    assert [(one.holds, one.n, one.text) for one in read.signs_inside(found)] == [
        (True, 3, "flair +0.1, mprage -0.1")
    ]
    assert holds(read.signs_around(found)) == [True]


@pytest.mark.parametrize(
    ("flair", "mprage", "expected"),
    [((0.4, 0.5, 0.9), (-0.1, -0.4, -0.2), True), ((0.1, 0.2, 0.3), (-0.3, -0.4, -0.5), False)],
)
def test_medians_are_those_that_the_cut_leaves(tmp_path, flair, mprage, expected):
    about = {"model": "net", "aggregator": "mean", "score": "logit", "outcome": "TP",
             "region": "inside"}  # fmt: skip
    rows = [{**about, "channel": "flair", "median_positive": value} for value in flair]
    rows += [{**about, "channel": "mprage", "median_negative": value} for value in mprage]
    rows += [{**about, "channel": "flair"}, {**about, "region": "1-2", "median_positive": 9}]
    (one,) = read.medians(tables(tmp_path, modalities=rows))
    assert (one.holds, one.n) == (expected, 3)


def heat(inside, on_nearest, distance=5.0, method="gradcam++", channel="heat"):
    return {
        "model": "net", "method": method, "aggregator": "mean", "score": "logit",
        "channel": channel, "inside": inside, "on_nearest": on_nearest, "distance_mm": distance,
    }  # fmt: skip


def test_maps_are_near_zero_if_they_are_in_both_channels(tmp_path):
    rows = [
        heat(1, value * share, method="gradient", channel=channel)
        for channel, share in (("flair", 0.01), ("mprage", 0.2))
        for value in (1, 1, 5)
    ]
    (one,) = others.near_zero(tables(tmp_path, others=rows))
    assert (one.holds, one.text) == (False, "on the nearest / inside: flair 0.010, mprage 0.200")
    assert holds(others.near_zero(tables(tmp_path, others=rows[:3]))) == [True]


def test_heat_is_compared_with_that_of_close_lesions(tmp_path):
    good, far = [heat(2, 1)] * 9, [heat(1, 1, distance=11)] * 5
    (one,) = others.apart(tables(tmp_path, others=[*good, *far, heat(1.9, 1)]))
    assert (one.holds, one.text) == (True, "twice the heat of the other in 9 of 10")
    assert holds(others.apart(tables(tmp_path, others=[*good[1:], heat(1.9, 1)]))) == [False]


def test_the_nearest_other_lesion_is_no_control(tmp_path):
    line = np.array([0, 1, 0, 0, 2, 0, 3, 0]).reshape(8, 1, 1)
    values = np.array([0, 3, 0, 0, 7, 0, -2, 0], np.float32).reshape(1, 8, 1, 1)
    write(
        tmp_path / "a.h5",
        {"gradient": (how(), lambda label, mask: values)},
        case=case_of(line.shape, channels=("flair",)),
        domains={label: line == label for label in (1, 2, 3)},
        outcomes={1: "TP", 2: "TN", 3: "FN"},
    )
    others.write_others(tmp_path)
    (row,) = pd.read_csv(tmp_path / "others" / "others.csv").to_dict("records")
    assert (row["label"], row["nearest"], row["distance_mm"]) == (1, 3, 5)
    assert (row["inside"], row["on_nearest"]) == (3, 2)


def curve(detected, mean, sd=(0.1, 0.3, 0.2)):
    rows = [
        {"model": "net", "fill": "dark", "grown": "distance", "step": step, "instances": 5,
         "detected": count, "mean_probability": mean, "sd_probability": spread}
        for step, count, spread in zip((0, 3, 7), detected, sd, strict=True)
    ]  # fmt: skip
    return [*rows, {**rows[0], "fill": "none", "grown": "", "step": None, "detected": 4}]


@pytest.mark.parametrize(
    ("detected", "mean", "isolated", "at_7_mm"),
    [
        ((0, 3, 4), 0.3, [True, True], True),
        ((4, 4, 4), 0.2, [False, True], False),
        ((2, 4, 4), 0.4, [True, False], False),
    ],
)
def test_context_is_read_from_the_curve(tmp_path, detected, mean, isolated, at_7_mm):
    found = tables(tmp_path, context_curves=curve(detected, mean))
    assert holds(around.alone(found)) == isolated
    assert holds(around.enough(found)) == [at_7_mm]
    assert holds(around.deviation(found)) == [True]


def test_a_moved_lesion_is_detected_by_a_voxel_or_by_the_mean(tmp_path):
    rows = [{"model": "net", "arm": "outside", "fill": "dark", "places": 5, "detected": 4,
             "mean_probability": 0.1}]  # fmt: skip
    found = list(around.moved("outside", detected=False)(tables(tmp_path, synthetic_arms=rows)))
    assert holds(found) == [False, True]
    assert verdict(found) == "agrees only if detected by is the mean"


def test_nothing_is_said_of_what_was_not_measured(tmp_path):
    nothing = Tables({tmp_path: "here"})
    assert {verdict(list(claim.observe(nothing))) for claim in CLAIMS} == {"cannot tell (n = 0)"}


def test_the_page_names_what_was_not_run(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    page = tmp_path / "docs" / "part" / "claims.md"
    page.parent.mkdir(parents=True)
    words = ["--out", tmp_path / "out", "--data", tmp_path / "data", "--steps", "0", "--page", page]
    monkeypatch.setattr(sys, "argv", list(map(str, [SCRIPT, *words])))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    text = page.read_text()
    assert "These were not run yet:" in text
    assert "segxai experiment context OUT/patient26/ms_lesion/patient26.h5" in text
    assert text.count("| cannot tell (n = 0) |") == len(CLAIMS)
