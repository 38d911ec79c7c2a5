"""Matching: both sides counted, against masks made by hand and a literal loop over all pairings."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.instances import RULES, components, find_instances, matchings
from segxai.matching import match, overlaps, threshold_of
from segxai.store.hdf5 import open_result
from segxai.store.schema import group, provenance_of
from segxai.types import InstanceCriteria
from tests.commandline import segxai, write_reference


def parts(*spans):
    """Components in a row of voxels, from first to last."""
    return [np.arange(first, last + 1)[:, None] for first, last in spans]


def counts(predicted, reference, rule, **more):
    found = match(parts(*predicted), parts(*reference), rule, **more).counts
    return tuple(found.values())


# Predicted TP and FP, reference found and FN.
SPLIT = ([(0, 2), (4, 6), (8, 9)], [(0, 9)])  # one lesion, drawn in three pieces
MERGED = ([(0, 9)], [(0, 2), (4, 6), (8, 9)])
CHAIN = ([(0, 3), (6, 9)], [(3, 6), (9, 20)])
MADE = {
    "split, any": (*SPLIT, "any", (3, 0, 1, 0)),
    "split, one-to-one": (*SPLIT, "one-to-one", (1, 2, 1, 0)),
    "split, iou": (*SPLIT, "iou:0.3", (2, 1, 1, 0)),
    "merged, any": (*MERGED, "any", (1, 0, 3, 0)),
    "merged, one-to-one": (*MERGED, "one-to-one", (1, 0, 1, 2)),
    "merged, high iou": (*MERGED, "iou:0.5", (0, 1, 0, 3)),
    "chain, any": (*CHAIN, "any", (2, 0, 2, 0)),
    "chain, one-to-one": (*CHAIN, "one-to-one", (2, 0, 2, 0)),
    "apart": ([(0, 1)], [(5, 6)], "any", (0, 1, 0, 1)),
    "nothing predicted": ([], [(5, 6)], "one-to-one", (0, 0, 0, 1)),
    "nothing drawn": ([(5, 6)], [], "any", (0, 1, 0, 0)),
    "nothing": ([], [], "iou:0.5", (0, 0, 0, 0)),
    "the same": ([(0, 4)], [(0, 4)], "iou:1", (1, 0, 1, 0)),
}


@pytest.mark.parametrize(("predicted", "reference", "rule", "wanted"), MADE.values(), ids=MADE)
def test_masks_made_by_hand(predicted, reference, rule, wanted):
    assert counts(predicted, reference, rule) == wanted


def test_rates_are_of_one_side_each():
    """TP / (TP + FN) would be 3 / 4: more than the half that is found."""
    found = match(parts((0, 2), (4, 6), (8, 9)), parts((0, 9), (20, 29)))
    assert (found.counts["predicted_tp"], found.counts["reference_fn"]) == (3, 1)
    assert (found.precision, found.recall, found.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    assert found.in_words() == (
        "match any: 3 TP and 0 FP of 3 predicted; 1 found and 1 FN of 2 in the reference"
    )
    nothing = match([], [])
    assert all(math.isnan(one) for one in (nothing.precision, nothing.recall, nothing.f1))
    assert match(parts((0, 1)), parts((5, 6))).f1 == 0


def test_what_is_too_small_counts_on_no_side_but_is_no_false_positive():
    small = {"too_small": parts((20, 21))}
    for rule in ("any", "one-to-one", "iou:0.4"):
        assert counts([(20, 24)], [(0, 9)], rule, **small) == (1, 0, 0, 1)
    assert counts([(20, 24)], [(0, 9)], "iou:0.41", **small) == (0, 1, 0, 1)


@pytest.mark.parametrize("rule", ["all", "iou", "iou:", "iou:x", "iou:0", "iou:1.1", "iou:nan", ""])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(SegxaiError, match="unknown rule .*; known: any, one-to-one, and iou:T w"):
        threshold_of(rule)
    with pytest.raises(SegxaiError, match="unknown rule"):
        match([], [], rule)


# ------------------------------------------------------------------------ a literal slow version


def scene(seed):
    """Two random masks of a plane, and their components."""
    random = np.random.default_rng(seed)
    first = random.random((14, 15)) < 0.3
    second = np.where(random.random(first.shape) < 0.7, first, random.random(first.shape) < 0.3)
    rule = InstanceCriteria(connectivity=1, min_volume_mm3=2)
    grid = Grid.unit(first.shape)
    return first, second, components(first, grid, rule), components(second, grid, rule)


def literal_iou(one, other):
    first, second = set(map(tuple, one.tolist())), set(map(tuple, other.tolist()))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_agree_with_sets_of_voxels(seed):
    _, _, predicted, reference = scene(seed)
    found = overlaps(predicted, reference)
    for (row, column), value in np.ndenumerate(found):
        assert value == pytest.approx(literal_iou(predicted[row], reference[column]))
    for rule, smallest in (("any", 1e-9), ("iou:0.5", 0.5), ("iou:0.2", 0.2)):
        matching = match(predicted, reference, rule)
        for row, one in enumerate(predicted):
            hit = any(literal_iou(one, other) >= smallest for other in reference)
            assert matching.predicted[row] == hit
        for column, other in enumerate(reference):
            hit = any(literal_iou(one, other) >= smallest for one in predicted)
            assert matching.reference[column] == hit


def test_components_of_one_side_may_overlap_and_lie_anywhere():
    line = np.arange(-6, 14)[:, None] * (1, 0)
    first, second = [line[:9], line[4:13]], [line[:9], line[2:11], line[15:]]
    found = overlaps(first, second)
    assert found[0].tolist() == pytest.approx([1, 7 / 11, 0])
    for (row, column), value in np.ndenumerate(found):
        assert value == pytest.approx(literal_iou(first[row], second[column]))


def best_by_trial(predicted, reference):
    """The largest sum of IoUs over all ways to pair components."""
    best = 0.0
    for count in range(min(len(predicted), len(reference)) + 1):
        for rows in combinations(range(len(predicted)), count):
            for columns in permutations(range(len(reference)), count):
                pairs = zip(rows, columns, strict=True)
                best = max(best, sum(literal_iou(predicted[r], reference[c]) for r, c in pairs))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_one_to_one_is_the_best_of_all_pairings(seed):
    _, _, predicted, reference = scene(seed)
    predicted, reference = predicted[:4], reference[:5]
    matching = match(predicted, reference, "one-to-one")
    assert matching.predicted.sum() == matching.reference.sum()
    kept = [one for one, hit in zip(predicted, matching.predicted, strict=True) if hit]
    taken = [one for one, hit in zip(reference, matching.reference, strict=True) if hit]
    assert best_by_trial(kept, taken) == pytest.approx(best_by_trial(predicted, reference))
    assert all(any(literal_iou(one, other) for other in taken) for one in kept)


@pytest.mark.parametrize("seed", range(5))
def test_outcomes_of_instances_agree_with_voxels(seed):
    mask, reference, _, _ = scene(seed)
    rule, grid = InstanceCriteria(connectivity=1, min_volume_mm3=3), Grid.unit(mask.shape)
    found = find_instances(mask, grid, rule, reference)
    predicted, drawn = (components(one, grid, rule) for one in (mask, reference))
    covered = np.zeros(mask.shape, dtype=bool)
    for voxels in predicted:
        covered[tuple(voxels.T)] = True
    outcomes = ["TP" if reference[tuple(one.T)].any() else "FP" for one in predicted]
    outcomes += ["FN" for one in drawn if not covered[tuple(one.T)].any()]
    assert [one.outcome for one in found] == outcomes
    by_any, by_pairs = matchings(found, reference, grid, rule)
    assert (by_any.rule, by_pairs.rule) == RULES
    assert by_any.counts["predicted_tp"] == outcomes.count("TP")
    assert by_any.counts["reference_fn"] == outcomes.count("FN")
    assert len(by_any.predicted) == len(predicted)
    assert len(by_any.reference) == len(drawn)


def test_a_run_says_and_keeps_both_sides(case, toys):
    write_reference("reference.nii.gz")
    files = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz")
    words = ("run", "--plugin", "toy", *files, "--method", "gradient", "--out", "r.h5")
    done = segxai(*words)
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        found = provenance_of(group(tree, "/"))["matches"]
        outcomes = tree["instances/outcome"].values.tolist()
    assert set(found) == set(RULES)
    assert found["any"]["predicted_tp"] == outcomes.count("TP") > 0
    assert found["any"]["reference_fn"] == outcomes.count("FN") > 0
    for rule, count in found.items():
        predicted = count["predicted_tp"] + count["predicted_fp"]
        said = f"against the reference, match {rule}: {count['predicted_tp']} TP and"
        assert said in done.err
        assert predicted == outcomes.count("TP") + outcomes.count("FP")
    assert segxai(*words).status == 0  # goes on: what a run finds is no other case
