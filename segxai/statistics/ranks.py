"""Rank-sum tests of two groups: of lesions as if independent, and of lesions within patients."""

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

from segxai.statistics.estimate import Estimate
from segxai.statistics.pairs import check

NAN = float("nan")


def mann_whitney(
    values: Float[np.ndarray, " lesion"],
    in_first: Bool[np.ndarray, " lesion"],
    patients: Shaped[np.ndarray, " lesion"],
) -> Estimate:
    """Compare two groups by the two-sided Mann-Whitney U test, as the paper does (section 2.6).

    Returns
    -------
    Estimate
        Cliff's delta in [-1, 1] with the p value of the test, marked as ignoring patients: where
        the share of a group varies between them, it rejects a true null in 25 % of all cases.
    """
    check(values, in_first)
    first, second = values[in_first], values[~in_first]
    found = stats.mannwhitneyu(first, second, alternative="two-sided")
    delta = 2 * float(found.statistic) / (len(first) * len(second)) - 1
    note = "takes all lesions as independent: ignores patients"
    counted = len(values), len(np.unique(patients))
    return Estimate("Mann-Whitney U", delta, NAN, NAN, float(found.pvalue), *counted, note)


def datta_satten(
    values: Float[np.ndarray, " lesion"],
    in_first: Bool[np.ndarray, " lesion"],
    patients: Shaped[np.ndarray, " lesion"],
) -> Estimate:
    """Compare two groups by the rank-sum test of Datta and Satten for clustered data (normal).

    The statistic is what a Wilcoxon test gives on average over all choices of one lesion a patient
    (JASA 2005;100:908), so that it holds where the number of lesions depends on the values.

    Returns
    -------
    Estimate
        The standardised statistic z (positive: the first group is larger) and its p value; NaN
        where fewer than two patients are there.
    """
    check(values, in_first)
    _, patient, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    count = len(sizes)
    method = "rank sum, Datta and Satten 2005 (normal)"
    share = np.bincount(patient, in_first) / sizes  # of the first group, by patient
    below = np.zeros((count, len(values)))  # of each value, the share of each patient below it
    for i in range(count):
        ordered = np.sort(values[patient == i])
        sides = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        below[i] = sum(sides) / 2 / sizes[i]
    others = below.sum(axis=0) - below[patient, np.arange(len(values))]
    statistic = np.sum(in_first * (1 + others) / sizes[patient]) / (count + 1)
    expected = share.sum() / 2
    pooled = (sizes[:, None] * below).sum(axis=0) / len(values)
    weights = (count - 1) * in_first - (share.sum() - share[patient])
    found = np.bincount(patient, weights * pooled) / (sizes * (count + 1))
    wanted = count / (2 * (count + 1)) * (share - share.mean())
    error = float(np.sqrt(((found - wanted) ** 2).sum()))
    counted = len(values), count
    if count < 2 or error == 0:
        note = "no test: the values of the patients do not vary"
        return Estimate(method, NAN, NAN, NAN, NAN, *counted, note)
    z = float((statistic - expected) / error)
    return Estimate(method, z, NAN, NAN, float(2 * stats.norm.sf(abs(z))), *counted)
