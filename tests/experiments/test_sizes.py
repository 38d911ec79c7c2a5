"""Sizes: rank correlations of peak and size, of all lesions and within patients."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from segxai.experiments.sizes.experiment import correlations_of, spearman
from tests.commandline import segxai


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


def made_up(slope, *, patients=11, lesions=9, level=0.0, seed=0):
    generator, rows = np.random.default_rng(seed), []
    for patient in range(patients):
        sizes = np.exp(generator.normal(3 + level * patient, 0.7, lesions))
        for label, size in enumerate(sizes):
            value = slope * np.log(size) + 3 * level * patient + generator.normal(0, 0.05)
            rows.append({
                "model": "m", "method": "gradient", "aggregator": "mean", "score": "logit",
                "channel": "flair", "patient": f"p{patient}", "label": label, "size": size,
                "value": value,
            })  # fmt: skip
    return pd.DataFrame(rows)


def test_a_rank_correlation_is_that_of_ranks():
    values, sizes = np.random.default_rng(0).normal(size=(2, 30))
    ranks = stats.rankdata(values), stats.rankdata(sizes)
    assert spearman(values, sizes)[0] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert np.isnan(spearman(values[:4], sizes[:4])[0])
    assert np.isnan(spearman(np.ones(9), sizes[:9])[0])


def test_within_patients_the_level_of_a_patient_does_not_count():
    row = correlations_of(made_up(-0.3, level=0.6)).iloc[0]
    assert row["spearman"] > 0.5  # patients with large lesions have large peaks
    assert row["within_patients"] < -0.9
    assert row["low"] <= row["within_patients"] <= row["high"] < 0
    assert row["headline"]
    assert row["patients_with_five"] == 11
    few = correlations_of(made_up(-0.3, patients=9)).iloc[0]
    assert not few["headline"]
    small = correlations_of(made_up(-0.3, lesions=4)).iloc[0]
    assert np.isnan(small["within_patients"])
    assert small["note"] == "no patient has 5 lesions"


def test_the_command_says_which_aggregator_is_missing(toy_result, tmp_path, drawn):
    done = segxai("experiment", "sizes", toy_result, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "no map is aggregated by signed_max" in done.out
    assert (tmp_path / "sizes.png").exists()
    table = pd.read_csv(tmp_path / "sizes.csv")
    assert len(table) == 4 * 2 * 2  # balls, channels, scores
