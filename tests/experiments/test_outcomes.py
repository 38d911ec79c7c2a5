"""Outcomes: groups, raw, matched and adjusted effects, and what is said of them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from segxai.experiments.outcomes.experiment import effects_of, groups_of
from segxai.experiments.peaks import extremes
from segxai.statistics.paired import holm
from segxai.tables.domains import tabulate
from tests.commandline import make_result, segxai, write_reference

RUN = {"model": "m", "method": "gradient", "aggregator": "signed_max", "score": "logit"}


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The toy against a reference: TP, FP and FN, for both scores."""
    folder = tmp_path_factory.mktemp("outcomes")
    write_reference(folder / "reference.nii.gz")
    files = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz", "--out", "r.h5")
    quick = ("--method", "gradient", "--aggregator", "mean", "--score", "logit,probability")
    return make_result(folder, ("run", "--plugin", "toy", *files, *quick))


def made_up(patients=12, lesions=8, *, by_size=0.0, by_outcome=0.0, controls=True, seed=0):
    """Peaks that depend on the patient, on log size, and on being a TP; `gap` is to the control."""
    generator, rows = np.random.default_rng(seed), []
    for patient in range(patients):
        level = generator.normal(0, 0.5)
        for label in range(1, lesions + 1):
            outcome = "TP" if generator.random() < 0.6 else "FP"
            size = np.exp(generator.normal(5 if outcome == "TP" else 3, 0.6))
            value = level + by_size * np.log(size) + by_outcome * (outcome == "TP")
            gap = label * (1 + patient / 100)  # patients do not tie, which takes scipy seconds
            about = {
                **RUN, "file": f"f{patient}.h5", "run": "r", "case": f"c{patient}", "session": "",
                "patient": f"p{patient}", "channel": "flair", "extreme": "peak", "size": size,
                "mean_probability": generator.uniform(0.3, 1), "kind": "", "source": np.nan,
                "gap": gap,
            }  # fmt: skip
            value += generator.normal(0, 0.1)
            rows.append({**about, "label": label, "outcome": outcome, "value": value})
            if controls:
                more = {"kind": "matched", "source": float(label), "outcome": "TN"}
                rows.append({**about, **more, "label": 100 + label, "value": value - gap})
    return pd.DataFrame(rows)


def pick(effects, comparison, statistic):
    same = (effects["comparison"] == comparison) & effects["statistic"].str.startswith(statistic)
    return effects[same]


def test_raw_effects_are_those_of_scipy_and_of_all_pairs():
    peaks = made_up(by_outcome=0.3, controls=False)
    effects = effects_of(peaks)
    tp, fp = (peaks.loc[peaks["outcome"] == one, "value"] for one in ("TP", "FP"))
    wanted = stats.mannwhitneyu(tp, fp)
    row = pick(effects, "raw", "Mann-Whitney").iloc[0]
    assert (row["first"], row["second"]) == ("TP", "FP")
    assert row["p"] == pytest.approx(wanted.pvalue)
    assert row["ignores_patients"]
    assert not row["headline"]
    auc = np.mean([(a > b) + 0.5 * (a == b) for a in tp for b in fp])
    found = pick(effects, "raw", "AUC, jackknife").iloc[0]
    assert found["value"] == pytest.approx(auc)
    assert found["low"] < auc < found["high"]
    assert found["headline"]
    assert not found["ignores_patients"]


def test_p_values_are_corrected_for_the_pairs_of_a_channel_and_statistic():
    peaks = made_up(patients=3, lesions=12, by_outcome=0.2, controls=False)
    peaks.loc[peaks.index % 3 == 0, "outcome"] = "FN"
    both = pd.concat([peaks, peaks.assign(channel="t1", value=-peaks["value"])])
    effects = effects_of(both)
    for _, family in pick(effects, "raw", "rank sum").groupby("channel"):
        assert len(family) == 3
        np.testing.assert_allclose(family["p_holm"], holm(family["p"].to_numpy()))


def test_a_difference_of_size_alone_is_none_for_equal_size():
    effects = effects_of(made_up(by_size=1.0))
    assert pick(effects, "raw", "AUC, jackknife").iloc[0]["value"] > 0.9
    adjusted = pick(effects, "adjusted", "difference").iloc[0]
    assert "log volume" in adjusted["statistic"]
    assert abs(adjusted["value"]) < 0.1
    assert adjusted["low"] < 0 < adjusted["high"]
    real = pick(effects_of(made_up(by_size=1.0, by_outcome=0.7)), "adjusted", "difference").iloc[0]
    assert real["value"] == pytest.approx(0.7, abs=0.15)
    both = pick(effects, "adjusted, probability", "difference")
    assert len(both) == 2  # of TP and FP, pooled and within patients


def test_each_domain_is_compared_with_its_own_control_of_its_own_file():
    peaks = made_up(patients=3)
    found = pick(effects_of(peaks), "matched", "mean of patients").set_index("first")
    for outcome in ("TP", "FP"):
        own = peaks[(peaks["outcome"] == outcome) & (peaks["kind"] == "")]
        wanted = own.groupby("patient")["gap"].mean().mean()
        assert found.loc[outcome, "value"] == pytest.approx(wanted)
        assert found.loc[outcome, "patients"] == own["patient"].nunique()
        assert found.loc[outcome, "lesions"] == len(own)
    none = effects_of(made_up(patients=3, controls=False))
    assert not len(pick(none, "matched", ""))


def test_too_few_patients_are_said_and_not_refused():
    effects = effects_of(made_up(patients=2, lesions=12))
    adjusted = pick(effects, "adjusted", "difference").iloc[0]
    assert np.isnan(adjusted["value"])
    assert "2 patients are too few" in adjusted["note"]
    assert not effects["headline"].any()


def test_groups_have_medians_of_domains_and_of_patients():
    peaks = made_up(by_outcome=0.5)
    own = peaks[(peaks["outcome"] == "TP") & (peaks["kind"] == "")]
    row = groups_of(peaks).set_index("outcome").loc["TP"]
    assert row["median"] == pytest.approx(own["value"].median())
    by_patient = [one["value"].median() for _, one in own.groupby("patient")]
    assert row["median_of_patients"] == pytest.approx(np.median(by_patient))
    assert row["domains"] == len(own)


def test_extremes_are_those_of_the_table_for_each_channel(result):
    table = tabulate(result)
    found = extremes(table)
    assert len(found) == 2 * 2 * len(table)
    row = found[(found["extreme"] == "trough") & (found["channel"] == "other")].iloc[3]
    same = table[(table["run"] == row["run"]) & (table["label"] == row["label"])]
    assert row["value"] == same["other_trough"].item()
    assert row["size"] == same["volume_mm3"].item()


def test_the_command_says_both_scores_and_that_patients_are_few(result, tmp_path, drawn):
    done = segxai("experiment", "outcomes", result, "--out", tmp_path)
    assert done.status == 0, done.err
    counts = "1 FN, 1 FP, 3 TP of 1 patient; values in"
    assert f"toy gradient mean, logit: {counts} logit per " in done.out
    assert f"toy gradient mean, probability: {counts} probability per " in done.out
    assert "no intervals: 1 patient, and at least 10 are needed; compare" in done.out
    assert "no matched controls in the results" in done.out
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names >= {"outcomes.png", "outcomes_forest.svg", "outcomes_effects.csv"}
    groups = pd.read_csv(tmp_path / "outcomes_groups.csv")
    assert set(groups["outcome"]) == {"TP", "FP", "FN"}


def test_results_without_outcomes_are_refused(toy_result, tmp_path):
    done = segxai("experiment", "outcomes", toy_result, "--out", tmp_path)
    assert "the results have no outcomes: run them with a --reference" in done.error
