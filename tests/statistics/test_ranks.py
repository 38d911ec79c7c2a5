"""Rank-sum tests: against scipy, a literal version, every choice of lesions, and in simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from segxai.statistics.ranks import datta_satten, mann_whitney
from workbench.cohorts import cohort


@pytest.fixture(params=[0, 1, 2])
def lesions(request):
    values, in_first, patients = cohort(np.random.default_rng(request.param), 5, auc=0.6)
    return np.round(values, 1), in_first, patients


def test_mann_whitney_is_scipys_and_cliffs_delta_is_literal(lesions):
    values, in_first, patients = lesions
    first, second = values[in_first], values[~in_first]
    found = mann_whitney(*lesions)
    assert found.p == stats.mannwhitneyu(first, second, alternative="two-sided").pvalue
    signs = [np.sign(a - b) for a in first for b in second]
    assert found.value == pytest.approx(np.mean(signs))
    assert "ignores patients" in found.note
    assert (found.lesions, found.patients) == (len(values), len(np.unique(patients)))


def literal(values, in_first, patients):
    """Datta and Satten 2005, equation by equation."""
    names = list(dict.fromkeys(patients))
    count = len(names)
    groups = [in_first[patients == name] for name in names]
    share = [group.mean() for group in groups]

    def below(x, sample):
        return (np.mean(sample <= x) + np.mean(sample < x)) / 2

    statistic = 0.0
    for name, group in zip(names, groups, strict=True):
        mine = values[patients == name]
        for x, is_first in zip(mine, group, strict=True):
            others = sum(below(x, values[patients == one]) for one in names if one != name)
            statistic += is_first * (1 + others) / len(mine) / (count + 1)
    variance = 0.0
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        mine = values[patients == name]
        rest = sum(share) - share[i]
        terms = [
            ((count - 1) * g - rest) * below(x, values) for x, g in zip(mine, group, strict=True)
        ]
        wanted = ((count - 1) * share[i] - rest) / (2 * (count + 1))
        variance += (sum(terms) / (len(mine) * (count + 1)) - wanted) ** 2
    return (statistic - sum(share) / 2) / np.sqrt(variance)


def test_datta_satten_is_its_literal_version(lesions):
    found, z = datta_satten(*lesions), literal(*lesions)
    assert found.value == pytest.approx(z, rel=1e-10)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_its_statistic_is_the_mean_rank_sum_over_choices_of_one_lesion_a_patient():
    """The numerator of the literal version, from its definition: Wilcoxon on every choice."""
    values = np.array([1.0, 4, 2, 2, 7, 3, 5])
    in_first = np.array([True, False, True, False, False, True, True])
    patients = np.array([0, 0, 1, 1, 1, 2, 2])
    sums = []
    for choice in itertools.product(*(np.flatnonzero(patients == i) for i in range(3))):
        ranks = stats.rankdata(values[list(choice)])
        sums.append(ranks[in_first[list(choice)]].sum() / 4)
    share = np.array([1 / 2, 1 / 3, 1])
    z = literal(values, in_first, patients)
    found = datta_satten(values, in_first, patients)
    assert found.value == pytest.approx(z)
    error = (np.mean(sums) - share.sum() / 2) / z
    # The error is a positive number of the size of the statistic: the numerators agree in sign.
    assert 0 < error < 1
    assert found.value * error == pytest.approx(np.mean(sums) - share.sum() / 2)


def test_swapped_groups_turn_the_sign_only(lesions):
    values, in_first, patients = lesions
    found, swapped = datta_satten(*lesions), datta_satten(values, ~in_first, patients)
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.p == pytest.approx(found.p)


def test_one_patient_has_no_test():
    found = datta_satten(np.arange(4.0), np.arange(4) < 2, np.zeros(4))
    assert np.isnan([found.value, found.p]).all()
    assert found.note


def rejected(method, runs, **how):
    generator = np.random.default_rng(3)
    return np.mean([method(*cohort(generator, 20, **how)).p < 0.05 for _ in range(runs)])


@pytest.mark.parametrize("design", ["frequency", "size"])
def test_in_simulation_datta_satten_holds_and_mann_whitney_does_not(design):
    """300 runs: 5 % within three standard errors of a share (1.3 points); 25 % for the other."""
    share = rejected(datta_satten, 300, design=design)
    assert 0.05 - 0.038 < share < 0.05 + 0.038
    assert rejected(mann_whitney, 100, design=design) > 0.12
