"""Scores of a model, counted again voxel by voxel and component by component."""

import numpy as np
import pytest

from segxai import open_result
from segxai.tables.scores import dice, scores_of
from tests.commandline import segxai, write_reference

FILES = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz")
RUN = ("run", "--plugin", "toy", *FILES, "--method", "gradient", "--out", "r.h5")


def test_dice_of_masks():
    rng = np.random.default_rng(0)
    predicted, reference = rng.random((2, 12, 11, 10)) < 0.2
    both = sum(a and b for a, b in zip(predicted.flat, reference.flat, strict=True))
    plain = 2 * both / (predicted.sum() + reference.sum())
    assert dice(predicted, reference) == pytest.approx(plain)
    load = reference.mean()
    weight = load / (1 - load) * 999
    extra, missed = predicted.sum() - both, reference.sum() - both
    wanted = 2 * both / (2 * both + weight * extra + missed)
    assert dice(predicted, reference, normalised=True) == pytest.approx(wanted)
    nothing = np.zeros_like(predicted)
    assert np.isnan(dice(nothing, nothing))
    assert np.isnan(dice(nothing, nothing, normalised=True))
    assert dice(predicted, nothing) == 0


def test_normalised_dice_is_dice_at_the_usual_load():
    reference = np.zeros((10, 10, 10), dtype=bool)
    reference[3, 4, 5] = True  # a load of 0.001
    predicted = np.roll(reference, 1) | reference
    assert dice(predicted, reference, normalised=True) == pytest.approx(dice(predicted, reference))


def test_rates_say_their_side_and_rule(case, toys):
    write_reference("reference.nii.gz")
    assert segxai(*RUN).status == 0
    with open_result("r.h5") as tree:
        scores = scores_of([tree, tree])
        outcomes = tree["instances/outcome"].values.tolist()
    one = scores[(scores["scope"] == "case") & (scores["subset_by"] == "all")].iloc[0]
    assert one["match"] == "any"
    assert one["predicted_tp"] == outcomes.count("TP")
    assert one["predicted_fp"] == outcomes.count("FP")
    assert one["reference_fn"] == outcomes.count("FN")
    assert one["fnr_of_reference"] == one["reference_fn"] / one["reference"]
    assert one["tpr_of_reference"] == pytest.approx(1 - one["fnr_of_reference"])
    assert one["fdr_of_predicted"] == one["predicted_fp"] / one["predicted"]
    precision, recall = 1 - one["fdr_of_predicted"], one["tpr_of_reference"]
    assert one["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    both = scores[(scores["scope"] == "cohort") & (scores["subset_by"] == "all")].iloc[0]
    assert both["scans"] == 2
    assert both["predicted_tp"] == 2 * one["predicted_tp"]
    assert both["dice"] == pytest.approx(one["dice"])
    by_size = scores[(scores["scope"] == "cohort") & (scores["match"] == "any")]
    by_size = by_size[by_size["subset_by"] == "size"]
    assert by_size["reference"].sum() == both["reference"]
    assert by_size["predicted_fp"].sum() == both["predicted_fp"]
    assert {"load", "largest"} <= set(scores["subset_by"])


def test_without_a_reference_there_is_no_score(case, toys):
    assert segxai(*RUN[:5], "--method", "gradient", "--out", "r.h5").status == 0
    with open_result("r.h5") as tree:
        assert scores_of([tree]).empty
