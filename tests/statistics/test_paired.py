"""Two values of each lesion, compared by patient."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from segxai import SegxaiError
from segxai.statistics.paired import holm, paired_t, signed_rank


def lesions(seed=0, patients=9, effect=0.4):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 12, patients)
    names = np.repeat([f"p{n}" for n in range(patients)], sizes)
    level = np.repeat(generator.normal(effect, 1, patients), sizes)
    return level + generator.normal(0, 0.3, len(names)), names


def test_each_patient_counts_once():
    values, names = lesions()
    means = np.array([values[names == one].mean() for one in np.unique(names)])
    found, wanted = paired_t(values, names), stats.ttest_1samp(means, 0)
    assert found.value == pytest.approx(means.mean())
    assert found.p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.lesions, found.patients) == (len(values), 9)


def test_the_signed_rank_is_exact_over_all_signs():
    values, names = lesions(patients=7)
    means = np.array([values[names == one].mean() for one in np.unique(names)])
    ranks = stats.rankdata(abs(means))
    seen = (ranks * np.sign(means)).sum()
    every = [(ranks * signs).sum() for signs in product((-1, 1), repeat=7)]
    found = signed_rank(values, names)
    assert found.p == pytest.approx(np.mean(np.abs(every) >= abs(seen)))
    assert found.value == pytest.approx(seen / ranks.sum())
    assert signed_rank(abs(values), names).value == 1
    assert signed_rank(-abs(values), names).value == -1


def test_few_patients_have_no_interval():
    found = paired_t(np.array([1.0, 3.0, 2.0]), np.array(["a", "a", "b"]))
    assert found.value == 2
    assert np.isnan(found.low)
    assert "no interval: 2 of 3 patients" in found.note
    assert "fewer than six" in signed_rank(np.array([1.0, 2.0]), np.array(["a", "b"])).note
    nothing = signed_rank(np.zeros(3), np.array(["a", "b", "c"]))
    assert (nothing.value, nothing.p) == (0, 1)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(SegxaiError, match="2 differences, of which 1 are NaN or infinite"):
        paired_t(np.array([1.0, np.nan]), np.array(["a", "b"]))
    with pytest.raises(SegxaiError, match="0 differences"):
        paired_t(np.array([]), np.array([]))


def test_holm_multiplies_by_the_tests_that_are_left():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_holm_is_that_of_statsmodels():
    for count in (1, 2, 7, 40):
        p = np.random.default_rng(count).random(count) ** 3
        wanted = multipletests(p, method="holm")[1]
        np.testing.assert_allclose(holm(p), wanted, rtol=1e-12)
