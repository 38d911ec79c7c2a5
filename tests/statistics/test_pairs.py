"""AUCs of lesions within patients: literal slow versions, closed forms, and simulated cohorts."""

import numpy as np
import pytest
from scipy import stats

from segxai.errors import SegxaiError
from segxai.statistics.pairs import (
    Pairs,
    auc_difference,
    jackknife_auc,
    obuchowski_auc,
    within_patient_auc,
)
from workbench.cohorts import cohort


@pytest.fixture(params=[0, 1, 2])
def lesions(request):
    """A small cohort with ties."""
    values, in_first, patients = cohort(np.random.default_rng(request.param), 6, auc=0.7)
    return np.round(values, 1), in_first, patients


def beats(one, other):
    return 1.0 if one > other else 0.5 if one == other else 0.0


def literal_auc(values, in_first):
    pairs = [beats(a, b) for a in values[in_first] for b in values[~in_first]]
    return sum(pairs) / len(pairs)


def test_wins_are_all_pairs_of_two_patients(lesions):
    values, in_first, patients = lesions
    pairs = Pairs.of(*lesions)
    for i in range(6):
        for j in range(6):
            of_i, of_j = in_first & (patients == i), ~in_first & (patients == j)
            wanted = sum(beats(a, b) for a in values[of_i] for b in values[of_j])
            assert pairs.wins[i, j] == wanted
    assert pairs.first.tolist() == [(in_first & (patients == i)).sum() for i in range(6)]
    assert pairs.second.tolist() == [(~in_first & (patients == i)).sum() for i in range(6)]


def test_the_auc_is_that_of_mann_whitney(lesions):
    values, in_first, _ = lesions
    found = stats.mannwhitneyu(values[in_first], values[~in_first]).statistic
    wanted = found / (in_first.sum() * (~in_first).sum())
    assert Pairs.of(*lesions).auc == pytest.approx(wanted, abs=1e-12)


def test_the_jackknife_leaves_out_one_patient_at_a_time(lesions):
    values, in_first, patients = lesions

    def logit(kept):
        first, second = (kept & in_first).sum(), (kept & ~in_first).sum()
        wins = literal_auc(values[kept], in_first[kept]) * first * second
        return np.log((wins + 0.5) / (first * second - wins + 0.5))

    whole = logit(np.ones(len(values), bool))
    pseudo = np.array([6 * whole - 5 * logit(patients != i) for i in range(6)])
    ends = np.array(stats.t.interval(0.95, 5, pseudo.mean(), stats.sem(pseudo)))
    found = jackknife_auc(Pairs.of(*lesions))
    assert found.value == pytest.approx(literal_auc(values, in_first))
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp(-ends))))
    assert found.p == pytest.approx(stats.ttest_1samp(pseudo, 0).pvalue)
    assert (found.lesions, found.patients, found.is_headline) == (len(values), 6, False)


def test_within_patients_it_is_the_mean_of_their_aucs(lesions):
    values, in_first, patients = lesions
    in_first = in_first & (patients != 4)  # patient 4 has the second group alone
    aucs = [literal_auc(values[patients == i], in_first[patients == i]) for i in (0, 1, 2, 3, 5)]
    found = within_patient_auc(Pairs.of(values, in_first, patients))
    assert found.value == pytest.approx(np.mean(aucs))
    wanted = stats.t.interval(0.95, 4, np.mean(aucs), stats.sem(aucs))
    assert (found.low, found.high) == pytest.approx(np.clip(wanted, 0, 1))
    assert found.p == pytest.approx(stats.ttest_1samp(aucs, 0.5).pvalue)
    assert (found.patients, found.lesions) == (5, (patients != 4).sum())


def test_obuchowskis_variance_is_that_of_the_formula(lesions):
    values, in_first, patients = lesions
    theta, first, second = literal_auc(values, in_first), in_first.sum(), (~in_first).sum()
    of_first, of_second = [], []  # the structural components, summed over a patient's lesions
    for i in range(6):
        mine, others = values[in_first & (patients == i)], values[~in_first]
        sums = sum(np.mean([beats(x, y) for y in others]) - theta for x in mine)
        of_first.append(sums)
        mine, others = values[~in_first & (patients == i)], values[in_first]
        of_second.append(sum(np.mean([beats(x, y) for x in others]) - theta for y in mine))
    s10 = 6 / (5 * first) * np.square(of_first).sum()
    s01 = 6 / (5 * second) * np.square(of_second).sum()
    s11 = 6 / 5 * np.dot(of_first, of_second)
    error = np.sqrt(s10 / first + s01 / second + 2 * s11 / (first * second))
    found = obuchowski_auc(Pairs.of(*lesions))
    assert (found.high - found.low) / 2 == pytest.approx(stats.norm.ppf(0.975) * error)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(theta - 0.5) / error))
    assert "for comparison only" in found.note


def test_one_lesion_a_patient_is_the_textbook_variance():
    """Without clusters Obuchowski's variance is that of DeLong (1988)."""
    generator = np.random.default_rng(5)
    values, in_first = generator.standard_normal(40), np.arange(40) < 15
    x, y = values[in_first], values[~in_first]
    wins = (x[:, None] > y).astype(float)
    wanted = wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y)
    found = obuchowski_auc(Pairs.of(values, in_first, np.arange(40)))
    error = (found.high - found.low) / 2 / stats.norm.ppf(0.975)
    assert error**2 == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("first", [0, 5])
def test_an_empty_group_is_refused(first):
    with pytest.raises(SegxaiError, match=f"{first} and {5 - first} lesions"):
        Pairs.of(np.arange(5.0), np.arange(5) < first, np.arange(5))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(SegxaiError, match="1 of 3 values"):
        Pairs.of(np.array([1, np.nan, 2]), np.array([True, False, False]), np.arange(3))


@pytest.mark.parametrize("method", [jackknife_auc, within_patient_auc, obuchowski_auc])
def test_too_few_patients_give_a_value_and_no_interval(method):
    values, in_first = np.array([1.0, 2, 3, 0]), np.array([True, False, True, False])
    found = method(Pairs.of(values, in_first, np.array([0, 0, 0, 0])))
    assert found.value == 0.75
    assert np.isnan([found.low, found.high, found.p]).all()
    assert "no interval" in found.note


def test_a_group_in_one_patient_alone_has_no_jackknife():
    values, patients = np.arange(12.0), np.repeat(np.arange(4), 3)
    found = jackknife_auc(Pairs.of(values, patients == 3, patients))
    assert found.value == 1
    assert np.isnan(found.low)


@pytest.mark.parametrize(
    ("method", "reason"),
    [(jackknife_auc, "do not overlap"), (within_patient_auc, "the same in all patients")],
)
def test_groups_that_do_not_overlap_have_no_interval(method, reason):
    values, in_first = np.arange(24.0), np.tile([False, True, True, False], 6)
    first_above = values + 100 * in_first
    for sign, auc in ((1, 1.0), (-1, 0.0)):
        found = method(Pairs.of(sign * first_above, in_first, np.repeat(np.arange(6), 4)))
        assert found.value == auc
        assert np.isnan([found.low, found.high, found.p]).all()
        assert reason in found.note


def rejections_and_coverage(method, *, auc, runs=300, patients=20, **how):
    generator = np.random.default_rng(11)
    found = [method(Pairs.of(*cohort(generator, patients, auc=auc, **how))) for _ in range(runs)]
    rejected = np.mean([one.p < 0.05 for one in found])
    covered = np.mean([one.low <= auc <= one.high for one in found])
    return rejected, covered


@pytest.mark.parametrize("design", ["frequency", "size"])
def test_in_simulation_the_jackknife_rejects_a_true_null_at_5_percent(design):
    """300 runs: within three standard errors of a share (1.3 points)."""
    rejected, covered = rejections_and_coverage(jackknife_auc, auc=0.5, design=design)
    assert 0.05 - 0.038 < rejected < 0.05 + 0.038
    assert covered > 0.91


def test_in_simulation_the_interval_of_the_jackknife_covers():
    _, covered = rejections_and_coverage(jackknife_auc, auc=0.8)
    assert covered > 0.91


def test_where_frequency_follows_the_level_only_the_comparison_within_patients_holds():
    rejected, _ = rejections_and_coverage(within_patient_auc, auc=0.5, design="level", runs=200)
    assert rejected < 0.1
    pooled, _ = rejections_and_coverage(jackknife_auc, auc=0.5, design="level", runs=50)
    assert pooled > 0.5


def test_a_difference_of_aucs_leaves_out_patients_of_both():
    generator = np.random.default_rng(3)
    patients = np.repeat(np.arange(8), 6)
    in_first = generator.random(48) < 0.5
    values = generator.normal(size=(2, 48)) + np.array([[1.0], [0.3]]) * in_first

    def auc(one, kept):
        above = one[in_first & kept][:, None] - one[~in_first & kept]
        return np.mean((above > 0) + 0.5 * (above == 0))

    every = np.ones(48, dtype=bool)
    whole = auc(values[0], every) - auc(values[1], every)
    left = [patients != one for one in range(8)]
    without = np.array([auc(values[0], kept) - auc(values[1], kept) for kept in left])
    pseudo = 8 * whole - 7 * without
    wanted = stats.ttest_1samp(pseudo, 0)
    interval = wanted.confidence_interval(0.95)
    found = auc_difference(*(Pairs.of(one, in_first, patients) for one in values))
    assert found.value == pytest.approx(whole)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    same = Pairs.of(values[0], in_first, patients)
    assert auc_difference(same, same).value == 0
    few = Pairs.of(values[0][:12], in_first[:12], patients[:12])
    assert np.isnan(auc_difference(few, few).low)
    with pytest.raises(ValueError, match="of other lesions"):
        auc_difference(same, few)
