"""Every lesion of one group against every lesion of the other, counted by patient."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats

from segxai.errors import SegxaiError
from segxai.statistics.estimate import CONFIDENCE, Estimate, t_interval, t_test

FEWEST_FOR_AN_ERROR = 3  # patients


@dataclass(frozen=True)
class Pairs:
    """Which of two lesions has the larger value, for all pairs of a first and a second group.

    Parameters
    ----------
    wins : Float[np.ndarray, "patient patient"]
        Entry (i, j): how many pairs of a first-group lesion of patient i and a second-group lesion
        of patient j the first one wins. A tie counts one half.
    first, second : Int[np.ndarray, "patient"]
        How many lesions of each group a patient has.
    """

    wins: Float[np.ndarray, "patient patient"]
    first: Int[np.ndarray, " patient"]
    second: Int[np.ndarray, " patient"]

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, " lesion"],
        in_first: Bool[np.ndarray, " lesion"],
        patients: Shaped[np.ndarray, " lesion"],
    ) -> "Pairs":
        """Count the pairs of lesions with these values, groups and patients.

        Raises
        ------
        SegxaiError
            If a group is empty, or a value is not finite.
        """
        check(values, in_first)
        names, patient = np.unique(patients, return_inverse=True)
        first = np.bincount(patient[in_first], minlength=len(names))
        second = np.bincount(patient[~in_first], minlength=len(names))
        wins = np.zeros((len(names), len(names)))
        for j in np.flatnonzero(second):
            ordered = np.sort(values[~in_first & (patient == j)])
            below = np.searchsorted(ordered, values[in_first], "left")
            tied_or_below = np.searchsorted(ordered, values[in_first], "right")
            won = (below + tied_or_below) / 2
            wins[:, j] = np.bincount(patient[in_first], won, minlength=len(names))
        return cls(wins, first, second)

    @property
    def auc(self) -> float:
        """The probability that a lesion of the first group is the larger one; ties count half."""
        return float(self.wins.sum() / (self.first.sum() * self.second.sum()))

    @property
    def lesions(self) -> int:
        """How many lesions both groups have."""
        return int(self.first.sum() + self.second.sum())


def check(values: Float[np.ndarray, " lesion"], in_first: Bool[np.ndarray, " lesion"]) -> None:
    """Refuse empty groups and values that cannot be ordered."""
    sizes = int(in_first.sum()), int((~in_first).sum())
    if 0 in sizes:
        raise SegxaiError(
            f"two groups are compared, and they have {sizes[0]} and {sizes[1]} lesions; "
            "each needs one at least"
        )
    if not np.isfinite(values).all():
        broken = int((~np.isfinite(values)).sum())
        raise SegxaiError(
            f"{broken} of {len(values)} values are NaN or infinite; leave these lesions out"
        )


def jackknife_auc(pairs: Pairs) -> Estimate:
    """Estimate the AUC with the jackknife over patients on the logit scale, and t.

    Of the pooled methods this one holds from 10 patients on: it rejects a true null at 5 %, and its
    interval covers 94 % (simulation in `benchmarks/clusters.py`). Half a pair is added to either
    side, so that the logit of an AUC of 1 exists.

    Returns
    -------
    Estimate
        The AUC in [0, 1]; NaN for the interval and p if fewer than 3 patients are there, one
        patient has a group for itself, or the groups do not overlap: half a pair would decide.
    """
    method = "AUC, jackknife over patients (logit, t)"
    involved = (pairs.first + pairs.second) > 0
    patients = int(involved.sum())
    wins, totals = _leaving_out(pairs, involved)
    counted = pairs.lesions, patients
    if patients < FEWEST_FOR_AN_ERROR or not totals.all():
        note = "no interval: fewer than 3 patients, or one patient has a group for itself"
        return Estimate(method, pairs.auc, np.nan, np.nan, np.nan, *counted, note)
    losses = totals - wins
    if not (wins[0] and losses[0]):
        note = "no interval: the groups do not overlap"
        return Estimate(method, pairs.auc, np.nan, np.nan, np.nan, *counted, note)
    whole, *without = np.log((wins + 0.5) / (losses + 0.5))
    values = patients * whole - (patients - 1) * np.array(without)
    error = float(np.std(values, ddof=1) / np.sqrt(patients))
    low, high = t_interval(float(values.mean()), error, patients - 1)
    p = t_test(float(values.mean()), error, patients - 1)
    return Estimate(method, pairs.auc, _expit(low), _expit(high), p, *counted)


def auc_difference(first: Pairs, second: Pairs) -> Estimate:
    """Estimate how much larger one AUC is than another of the same lesions, in the same order.

    By the jackknife over patients, with t: what both share of a patient cancels.

    Returns
    -------
    Estimate
        The difference in [-1, 1]; NaN for the interval and p as for `jackknife_auc`.

    Raises
    ------
    ValueError
        If the lesions differ.
    """
    if not all(map(np.array_equal, (first.first, first.second), (second.first, second.second))):
        raise ValueError("the two AUCs are of other lesions")
    method = "difference of AUCs, jackknife over patients (t)"
    involved = (first.first + first.second) > 0
    patients, value = int(involved.sum()), first.auc - second.auc
    (wins, totals), (others, _) = (_leaving_out(one, involved) for one in (first, second))
    if patients < FEWEST_FOR_AN_ERROR or not totals.all():
        note = "no interval: fewer than 3 patients, or one patient has a group for itself"
        return Estimate(method, value, np.nan, np.nan, np.nan, first.lesions, patients, note)
    whole, *without = (wins - others) / totals
    values = patients * whole - (patients - 1) * np.array(without)
    error = float(np.std(values, ddof=1) / np.sqrt(patients))
    low, high = t_interval(float(values.mean()), error, patients - 1)
    p = t_test(float(values.mean()), error, patients - 1)
    return Estimate(method, value, low, high, p, first.lesions, patients)


def _leaving_out(
    pairs: Pairs, involved: Bool[np.ndarray, " patient"]
) -> tuple[Float[np.ndarray, " cohort"], Float[np.ndarray, " cohort"]]:
    """Count wins and pairs of the whole cohort first, then of the cohort without each patient."""
    lost = pairs.wins.sum(axis=0) + pairs.wins.sum(axis=1) - np.diag(pairs.wins)
    wins = pairs.wins.sum() - np.append(0, lost[involved])
    first = pairs.first.sum() - np.append(0, pairs.first[involved])
    second = pairs.second.sum() - np.append(0, pairs.second[involved])
    return wins, (first * second).astype(float)


def _expit(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def within_patient_auc(pairs: Pairs) -> Estimate:
    """Estimate the AUC among the lesions of one patient: its mean over patients with both groups.

    It holds where a group is more frequent in patients with larger values: pooled methods then find
    a difference between patients, and not between lesions.

    Returns
    -------
    Estimate
        The mean AUC in [0, 1] and its t interval; NaN for the interval and p if fewer than 3
        patients have both groups, or all have the same AUC.
    """
    both = (pairs.first * pairs.second) > 0
    patients = int(both.sum())
    aucs = np.diag(pairs.wins)[both] / (pairs.first * pairs.second)[both]
    method = "AUC within patients (mean, t)"
    lesions = int((pairs.first + pairs.second)[both].sum())
    if patients < FEWEST_FOR_AN_ERROR:
        value = float(aucs.mean()) if patients else np.nan
        note = "no interval: fewer than 3 patients have both groups"
        return Estimate(method, value, np.nan, np.nan, np.nan, lesions, patients, note)
    value, error = float(aucs.mean()), float(np.std(aucs, ddof=1) / np.sqrt(patients))
    if not np.ptp(aucs):
        note = "no interval: the same in all patients"
        return Estimate(method, value, np.nan, np.nan, np.nan, lesions, patients, note)
    low, high = np.clip(t_interval(value, error, patients - 1), 0, 1)
    p = t_test(value - 0.5, error, patients - 1)
    return Estimate(method, value, float(low), float(high), p, lesions, patients)


def obuchowski_auc(pairs: Pairs) -> Estimate:
    """Estimate the AUC with the clustered variance of Obuchowski (Biometrics 1997;53:567).

    Its standard error is 6 to 17 % too small for 10 to 37 patients (simulation): it is here to
    compare with published figures.
    """
    theta, first, second = pairs.auc, pairs.first.sum(), pairs.second.sum()
    with_first, with_second = pairs.first > 0, pairs.second > 0
    patients = int((with_first | with_second).sum())
    method = "AUC, Obuchowski 1997 (normal)"
    counted = pairs.lesions, patients
    if min(with_first.sum(), with_second.sum()) < 2:
        note = "no interval: a group is in a single patient"
        return Estimate(method, theta, np.nan, np.nan, np.nan, *counted, note)
    of_first = pairs.wins.sum(axis=1) / second - pairs.first * theta
    of_second = pairs.wins.sum(axis=0) / first - pairs.second * theta
    variance = (
        _of_clusters(int(with_first.sum())) * (of_first**2).sum() / first**2
        + _of_clusters(int(with_second.sum())) * (of_second**2).sum() / second**2
        + 2 * _of_clusters(patients) * (of_first * of_second).sum() / (first * second)
    )
    error = float(np.sqrt(max(variance, 0.0)))
    reach = stats.norm.ppf(0.5 + CONFIDENCE / 2) * error
    low, high = np.clip([theta - reach, theta + reach], 0, 1)
    p = float(2 * stats.norm.sf(abs(theta - 0.5) / error)) if error else np.nan
    note = "the published standard error is 6 to 17 % low; for comparison only"
    return Estimate(method, theta, float(low), float(high), p, *counted, note)


def _of_clusters(count: int) -> float:
    return count / (count - 1)
