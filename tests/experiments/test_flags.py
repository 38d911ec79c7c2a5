"""Flags: what is fitted to whom, what is judged on whom, and what is kept of it."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from segxai import SegxaiError, SegxaiWarning
from segxai.experiments.flags.experiment import Part, out_of_fold, threshold_of, why_not
from segxai.experiments.flags.model import (
    FlagModel,
    features_of,
    fit,
    flagged,
    left_out,
    names_of_set,
)
from segxai.tables.domains import tabulate
from tests.commandline import make_result, segxai, write_reference

KEY = ("m", "gradient", "mean")
SALIENCY = "saliency logit flair peak"


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The toy against a reference, for both scores."""
    folder = tmp_path_factory.mktemp("flags")
    write_reference(folder / "reference.nii.gz")
    files = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz", "--out", "r.h5")
    quick = ("--method", "gradient", "--aggregator", "mean", "--score", "logit,probability")
    return make_result(folder, ("run", "--plugin", "toy", *files, *quick))


def made_up(*, saliency=1.0, volume=1.0, patients=12, lesions=14, seed=0):
    """Domains whose size and saliency tell TP from FP by so many standard deviations."""
    generator, rows = np.random.default_rng(seed), []
    for patient in range(patients):
        for label in range(lesions):
            is_tp = generator.random() < 0.6
            about = dict(zip(("model", "method", "aggregator"), KEY, strict=True))
            rows.append({
                **about, "file": f"f{patient}", "case": f"c{patient}", "patient": f"p{patient}",
                "label": label, "outcome": "TP" if is_tp else "FP",
                "log_size": generator.normal(volume * is_tp), "mean_probability": 0.5,
                "max_probability": generator.random(), "mean_entropy": np.nan,
                **dict.fromkeys(("noisy_logit_deviation", "structural_uncertainty"), np.nan),
                "noisy_probability_deviation": np.nan,
                SALIENCY: generator.normal(saliency * is_tp),
            })  # fmt: skip
    return pd.DataFrame(rows)


def told(table):
    part = Part.of(KEY, table, table["file"].nunique())
    rows = [row for row in part.rows if "jackknife" in row["statistic"]]
    return part, {row["features"]: row for row in rows}


def test_a_fit_is_that_of_scikit_learn_and_survives_its_json(tmp_path):
    features = np.random.default_rng(0).normal(size=(60, 3)) * [1, 10, 0.1] + [0, 5, 2]
    is_tp = features[:, 0] + np.random.default_rng(1).normal(size=60) > 0
    model = fit(features, is_tp, ("a", "b", "c"), -0.5, {"model": "m"})
    scaler = StandardScaler().fit(features)
    wanted = LogisticRegression(max_iter=1000).fit(scaler.transform(features), is_tp)
    odds = wanted.decision_function(scaler.transform(features))
    np.testing.assert_allclose(model.log_odds(features), odds)
    path = tmp_path / "m.json"
    path.write_text(model.as_json())
    again = FlagModel.read(path)
    np.testing.assert_array_equal(again.log_odds(features), model.log_odds(features))
    assert (again.features, again.threshold) == (("a", "b", "c"), -0.5)


def test_no_patient_is_judged_by_a_fit_that_saw_it():
    table = made_up(patients=6)
    is_tp, patients = (table["outcome"] == "TP").to_numpy(), table["patient"].to_numpy(str)
    # Each patient has a feature of its own that gives its outcomes away.
    own = np.stack([np.where(patients == one, is_tp - 0.5, 0) for one in np.unique(patients)], 1)
    scores = out_of_fold(own, is_tp, patients)
    for one in np.unique(patients):
        inside = patients == one
        assert np.ptp(scores[inside]) < 1e-9  # unseen by the fit, the feature has no weight
    for left in np.unique(patients):
        train = patients != left
        model = fit(own[train], is_tp[train], tuple("abcdef"), 0.0, {})
        np.testing.assert_allclose(scores[~train], model.log_odds(own[~train]))


def test_what_saliency_adds_is_told_from_nothing():
    part, useful = told(made_up(saliency=1.5))
    more = useful["both less baseline"]
    assert more["value"] == pytest.approx(useful["both"]["value"] - useful["baseline"]["value"])
    assert more["low"] > 0
    assert any("adds to the AUC of all baselines" in line for line in part.words())
    part, useless = told(made_up(saliency=0.0))
    assert useless["both less baseline"]["low"] < 0 < useless["both less baseline"]["high"] + 0.02
    assert useless["saliency"]["value"] < 0.62
    text = "\n".join(part.words())
    assert "nothing that can be told from 0" in text or "takes away from" in text
    assert useless["log_size alone, unfitted"]["value"] > 0.7


def test_constant_and_missing_features_do_no_harm():
    table = made_up()
    assert names_of_set(table, "baseline") == ["log_size", "mean_probability", "max_probability"]
    assert names_of_set(table, "both")[-1] == SALIENCY
    part, rows = told(table)
    assert np.isfinite(rows["baseline"]["value"])
    assert part.model is not None
    assert part.model.features == tuple(names_of_set(table, "both"))


def test_what_is_left_out_is_said_and_what_it_needs():
    table = made_up()
    table.loc[:2, "noisy_logit_deviation"] = 0.1
    table.loc[0, SALIENCY] = np.nan
    assert list(left_out(table)) == [
        "mean_entropy is left out, as no domain has it (needs classes that exclude each other)",
        f"noisy_logit_deviation is left out, as {len(table) - 3} of {len(table)} domains lack it "
        "(needs --method smoothgrad --score logit)",
        "structural_uncertainty is left out, as no domain has it (needs --tta or --fold)",
        "noisy_probability_deviation is left out, as no domain has it (needs --method smoothgrad "
        "--score probability)",
        f"{SALIENCY} is left out, as 1 of {len(table)} domains lack it",
    ]
    part, _ = told(table)
    _, second, *_, last = (line.strip() for line in part.words())
    assert second.startswith("mean_entropy is left out")
    assert last.startswith("cannot tell: no feature of the maps is known of every domain")


def test_a_baseline_that_every_domain_has_is_one():
    table = made_up(volume=0.0)
    generator, is_tp = np.random.default_rng(5), table["outcome"] == "TP"
    table["noisy_probability_deviation"] = generator.normal(2.0 * is_tp)
    table["structural_uncertainty"] = generator.random(len(table))
    part, rows = told(table)
    assert rows["baseline"]["value"] > 0.85  # neither size nor probability tells anything here
    assert rows["noisy_probability_deviation alone, unfitted"]["value"] > 0.85
    assert "structural_uncertainty" in part.model.features
    assert not any(
        "deviation is left out, as no" in line and "probab" in line for line in part.words()
    )


def noisy(rows, *, run, score, deviation):
    """Rows of a table of domains, as another run of the same result makes them."""
    column = f"noisy_{score}_deviation"
    return rows.assign(run=run, method=run, score=score, **{column: deviation})


def test_a_baseline_of_an_instance_may_come_from_any_run(result):
    table = tabulate(result)
    clean = table[table["score"] == "logit"]
    deviations = np.arange(len(clean)) + 1.0
    both = pd.concat([
        table,
        noisy(clean, run="smoothgrad", score="logit", deviation=deviations),
        noisy(clean, run="smoothgrad", score="probability", deviation=deviations / 10),
    ])  # fmt: skip
    found = features_of(both).set_index(["method", "label"])
    for label, wanted in zip(clean["label"], deviations, strict=True):
        for method in ("gradient", "smoothgrad"):
            if (method, label) not in found.index:  # missed by the model
                continue
            row = found.loc[(method, label)]
            assert row["noisy_logit_deviation"] == wanted
            assert row["noisy_probability_deviation"] == wanted / 10
    assert found["structural_uncertainty"].isna().all()


def test_at_the_threshold_95_percent_of_the_tp_are_kept():
    scores, is_tp = np.arange(200.0), np.arange(200) % 2 == 0
    threshold = threshold_of(scores, is_tp)
    assert (scores[is_tp] >= threshold).mean() >= 0.95
    assert (scores[is_tp] > threshold).mean() < 0.95  # no larger one would do
    table = made_up(saliency=3.0, volume=0.0)
    part, _ = told(table)
    alarms = {row["features"]: row for row in part.rows if "false alarms" in row["statistic"]}
    false = (table["outcome"] == "FP").to_numpy()
    left = part.table["score_both"].to_numpy()[false] >= part.model.threshold
    assert alarms["both"]["value"] == pytest.approx(left.sum() / 12)
    assert alarms["both"]["before"] == pytest.approx(false.sum() / 12)
    assert alarms["both"]["value"] < alarms["baseline"]["value"]


def test_below_ten_fp_or_five_patients_nothing_is_told():
    patients = np.repeat([f"p{n}" for n in range(6)], 4)
    is_tp = np.tile([True, True, False, False], 6)
    assert why_not(is_tp, patients) == ""
    assert "8 FP of 4 patients" in why_not(is_tp[:16], patients[:16])
    few = is_tp.copy()
    few[2:8] = True
    assert "8 FP of 6 patients" in why_not(few, patients)
    one = np.ones(24, dtype=bool)
    one[:4] = False
    assert "below 10 FP" in why_not(one, patients)
    single = np.concatenate([np.zeros(12, bool), np.ones(12, bool)])
    owners = np.array(["a"] * 12 + ["b", "c", "d", "e"] * 3)
    assert why_not(single, owners) == "all FP, or all TP, are of one patient"


def test_features_are_those_of_the_table(result):
    table = tabulate(result)
    found = features_of(table)
    predicted = table[table["outcome"].isin(("TP", "FP"))]
    assert len(found) == len(predicted) / 2  # both scores in one row
    row = found.iloc[1]
    same = table[(table["label"] == row["label"])].set_index("score")
    assert row["log_size"] == pytest.approx(np.log(same.loc["logit", "volume_mm3"]))
    for score in ("logit", "probability"):
        peak = same.loc[score, "bright_peak"]
        assert row[f"saliency {score} bright peak"] == pytest.approx(np.log10(peak))
        share = same.loc[score, "other_inside_share"]
        assert row[f"saliency {score} other inside"] == pytest.approx(share)


def test_a_flag_is_added_to_the_predicted_domains(result, tmp_path):
    table = tabulate(result)
    features = features_of(table)
    names = ("log_size", "saliency probability bright peak")
    values = features[list(names)].to_numpy(float)
    model = FlagModel(names, (1.0, 0.0), (2.0, 1.0), (0.5, -1.0), 0.25, 0.6)
    odds = (values[:, 0] - 1) / 2 * 0.5 - values[:, 1] + 0.25
    found = flagged(table, model)
    assert len(found) == len(table)
    for label, wanted in zip(features["label"], odds, strict=True):
        rows = found[found["label"] == label]
        np.testing.assert_allclose(rows["flag_log_odds"], wanted)
        assert rows["flagged"].tolist() == [wanted < 0.6] * 2
    missed = found[found["outcome"] == "FN"]
    assert len(missed)
    assert missed["flagged"].isna().all()
    path = tmp_path / "model.json"
    path.write_text(model.as_json())
    done = segxai("flag", result, "--with", path, "--out", tmp_path / "t.parquet")
    assert done.status == 0, done.err
    again = pd.read_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(again["flag_log_odds"], found["flag_log_odds"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "cannot read {path} as a flag's model"),
        ("[]", "holds no flag's model"),
        (json.dumps({"kind": "segxai flag", "features": ["a"]}), "holds no flag's model"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content, line, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(SegxaiError, match=line.format(path=path)):
        FlagModel.read(path)
    lists = {"features": ["a"], "mean": ["x"], "scale": [1.0], "coefficients": [1.0]}
    numbers = {"intercept": 0.0, "threshold": 0.0, "kind": "segxai flag"}
    path.write_text(json.dumps({**lists, **numbers}))
    with pytest.raises(SegxaiError, match="holds no flag's model"):
        FlagModel.read(path)


def test_a_model_of_other_channels_is_refused(result):
    model = FlagModel(("saliency logit t2 peak",), (0.0,), (1.0,), (1.0,), 0.0, 0.0)
    with pytest.raises(SegxaiError, match="needs 1 feature that these results do not have"):
        flagged(tabulate(result), model)


def test_a_flag_needs_the_baselines_of_its_model(result):
    model = FlagModel(("noisy_logit_deviation",), (0.0,), (1.0,), (1.0,), 0.0, 0.0)
    table = tabulate(result)
    with pytest.raises(SegxaiError, match=r"'noisy_logit_deviation' \(needs --method smoothgrad"):
        flagged(table, model)
    first = table["label"] == table["label"].min()
    some = table.assign(noisy_logit_deviation=np.where(first, -1.0, np.nan))
    count = features_of(table)["label"].nunique()
    said = f"{count - 1} of {count} predicted domains lack a feature of the model"
    with pytest.warns(SegxaiWarning, match=said):
        found = flagged(some, model)
    assert found.loc[first, "flagged"].tolist() == [True, True]
    assert found.loc[~first, "flagged"].isna().all()


def test_the_command_cannot_tell_from_one_patient_and_succeeds(result, toy_result, tmp_path, drawn):
    done = segxai("experiment", "flags", result, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "cannot tell: 1 FP of 1 patient, and below" in done.out
    assert "noisy_logit_deviation is left out, as no domain has it (needs --method" in done.out
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert {"flags.png", "flags.csv", "flags.txt"} <= names
    assert "flags_model.json" not in names
    refused = segxai("experiment", "flags", toy_result, "--out", tmp_path / "other")
    assert "no TP or FP in the results" in refused.error
