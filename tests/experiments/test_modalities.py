"""Modalities: regions around a domain, their sums, and tests between channels."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from segxai.experiments.cases import cases_in
from segxai.experiments.modalities.experiment import (
    EDGES,
    Modalities,
    modalities,
    regions_of,
    summary,
)
from segxai.experiments.modalities.weights import comparisons_of, profile_of, weights_of
from segxai.experiments.probe import Access
from segxai.store.hdf5 import open_result
from segxai.store.reader import domains_of, maps
from segxai.store.schema import attribution_of
from tests.commandline import segxai

RUN = {"model": "m", "method": "gradient", "aggregator": "mean", "score": "logit"}


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 3.0)])
def test_regions_are_those_of_distances_measured_one_by_one(spacing):
    shape = (14,) * len(spacing)
    domain = np.zeros(shape, dtype=bool)
    domain[(slice(5, 9),) * len(shape)] = True
    voxels = np.argwhere(domain)
    regions = dict(regions_of(domain, spacing))
    total = np.sum(list(regions.values()), axis=0)
    np.testing.assert_array_equal(total, 1)  # each voxel is in one
    for voxel in product(*map(range, shape)):
        (name,) = [name for name, where in regions.items() if where[voxel]]
        beside = [np.add(voxel, sign * np.eye(len(shape), dtype=int)[axis])
                  for axis in range(len(shape)) for sign in (-1, 1)]  # fmt: skip
        if domain[voxel]:
            is_inner = all(domain[tuple(one)] for one in beside)
            assert name == ("inside" if is_inner else "border")
            continue
        distance = np.sqrt((((voxels - voxel) * spacing) ** 2).sum(axis=1)).min()
        low, _, high = name.partition("-")
        assert float(low) < distance <= (float(high) if high else np.inf)


def test_a_summary_keeps_signs_apart_and_cuts_medians_alone():
    values = np.array([-2.0, -0.05, 0.0, 0.05, 1.0, 3.0])
    found = summary(values, 0.1)
    assert found["positive_sum"] == pytest.approx(4.05)
    assert found["negative_sum"] == pytest.approx(-2.05)
    assert (found["peak"], found["trough"], found["voxels"]) == (3, -2, 6)
    assert (found["median_positive"], found["median_negative"]) == (2, -2)
    assert summary(values, 0)["median_positive"] == 1
    assert np.isnan(summary(values[:1], 0.1)["median_positive"])
    assert summary(np.array([]), 0)["voxels"] == 0


def test_regions_of_a_result_add_up_to_its_maps(toy_result):
    (case,) = cases_in([toy_result])
    experiment = modalities(Modalities(shapley=False), [case], Access())
    found = experiment.measure(case).tables["regions"]
    with open_result(toy_result) as tree:
        stored = maps(tree, "gradient-mean-probability")[3]
        values = attribution_of(stored).on_grid((20, 18, 16))
        domain = domains_of(tree)[3]
    own = found[(found["run"] == "gradient-mean-probability") & (found["label"] == 3)]
    assert set(own["score"]) == {"probability"}
    for channel, one in zip(("bright", "other"), values, strict=True):
        rows = own[own["channel"] == channel].set_index("region")
        inside = rows.loc[["inside", "border"]]
        assert inside["voxels"].sum() == len(domain)
        total = (rows["positive_sum"] + rows["negative_sum"]).sum()
        assert total == pytest.approx(one.sum(), rel=1e-5)
        within = one[tuple(domain.T)]
        assert inside["positive_sum"].sum() == pytest.approx(within[within > 0].sum(), rel=1e-5)
        assert rows["peak"].max() == pytest.approx(one.max())
        mask = np.zeros(one.shape, dtype=bool)
        mask[tuple(domain.T)] = True
        away = ndimage.distance_transform_edt(~mask)
        shell = (away > 1) & (away <= 2)
        assert rows.loc["1-2", "voxels"] == shell.sum()
        assert rows.loc["1-2", "negative_sum"] == pytest.approx(one[shell & (one < 0)].sum())
    assert len(own) == 2 * (2 + len(EDGES))


def made_up(*, patients=11, effect=0.5, seed=0):
    """Two channels of a domain: the first weighs more by an amount that varies between patients."""
    generator, rows = np.random.default_rng(seed), []
    for patient in range(patients):
        more = generator.normal(effect, 0.2)
        for label in range(generator.integers(1, 6)):
            for channel, weight in (("flair", 1 + more), ("t1", 1.0)):
                for region, voxels in (("inside", 4), ("border", 6), ("0-1", 20)):
                    rows.append({
                        **RUN, "case": f"c{patient}", "patient": f"p{patient}", "session": "",
                        "run": "r", "label": label, "outcome": "TP", "channel": channel,
                        "region": region, "voxels": voxels, "unit": "u",
                        "positive_sum": 0.75 * weight * voxels,
                        "negative_sum": -0.25 * weight * voxels, "peak": 1.0, "trough": -1.0,
                        "median_positive": 1.0, "median_negative": -1.0,
                    })  # fmt: skip
    return pd.DataFrame(rows)


def test_weights_are_means_over_the_domain():
    row = weights_of(made_up(effect=1.0)).iloc[1]
    assert row["channel"] == "t1"
    assert row["weight"] == pytest.approx(1.0)
    assert row["net"] == pytest.approx(0.5)
    assert (row["positive"], row["negative"]) == (pytest.approx(0.75), pytest.approx(-0.25))


def test_channels_are_compared_lesion_by_lesion_with_patients_as_units():
    weights = weights_of(made_up())
    wide = weights.pivot_table(index=["patient", "label"], columns="channel", values="weight")
    means = (wide["flair"] - wide["t1"]).groupby("patient").mean()
    tests = comparisons_of(weights)
    found = tests[(tests["question"] == "weight") & tests["statistic"].str.startswith("mean")]
    assert len(found) == 1  # one pair
    row = found.iloc[0]
    assert (row["first"], row["second"]) == ("flair", "t1")
    assert row["value"] == pytest.approx(means.mean())
    assert row["p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert row["patients"] == 11
    assert row["headline"]
    one = comparisons_of(weights[weights["channel"] == "t1"])
    assert set(one["question"]) == {"net is 0"}


def test_pairs_are_those_of_the_same_lesion_in_any_order():
    weights = weights_of(made_up(patients=4))
    weights["weight"] *= 1 + weights["label"]  # of the same lesion: other pairs differ otherwise
    shuffled = weights.sample(frac=1, random_state=0)
    value = {}
    for name, one in (("in order", weights), ("shuffled", shuffled)):
        tests = comparisons_of(one)
        row = tests[
            (tests["question"] == "weight") & tests["statistic"].str.startswith("mean")
        ].iloc[0]
        value[name] = row["value"] * (1 if row["first"] == "flair" else -1), row["p"]
    assert value["in order"] == pytest.approx(value["shuffled"])


def test_a_profile_counts_patients_of_either_sign():
    regions = made_up(patients=4)
    regions.loc[regions["patient"] == "p0", "negative_sum"] *= 9
    row = profile_of(regions).set_index(["channel", "region"]).loc[("t1", "0-1")]
    assert row["positive_patients"] == 0.75
    assert row["patients"] == 4


def test_the_command_says_signs_and_writes_profiles(toy_result, tmp_path, drawn):
    done = segxai("experiment", "modalities", toy_result, "--out", tmp_path, "--cut", "0.1")
    assert done.status == 0, done.err
    assert "toy gradient mean, logit, all: 4 domains of 1 patient; values in logit per " in done.out
    assert "bright: positive from inside to" in done.out
    assert "mean magnitude of bright less that of other:" in done.out
    assert "medians leave out magnitudes below 0.1" in done.out
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names >= {"modalities.png", "modalities_profile.svg", "modalities_tests.csv"}


def test_a_negative_cut_is_refused(toy_result, tmp_path):
    done = segxai("experiment", "modalities", toy_result, "--out", tmp_path, "--cut", "-1")
    assert "a cut of -1: give 0 or more" in done.error
