"""Two values of each lesion, compared by patient; and Holm's correction for many tests."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from segxai.errors import SegxaiError
from segxai.statistics.estimate import Estimate, t_interval, t_test

NAN = float("nan")
FEWEST = 3  # patients


def patient_means(
    values: Float[np.ndarray, " lesion"], patients: Shaped[np.ndarray, " lesion"]
) -> Float[np.ndarray, " patient"]:
    """Average the values of each patient's lesions.

    Raises
    ------
    SegxaiError
        If there is no lesion, or a value is not finite.
    """
    if not len(values) or not np.isfinite(values).all():
        broken = int((~np.isfinite(values)).sum())
        raise SegxaiError(
            f"{len(values)} differences, of which {broken} are NaN or infinite; leave these out"
        )
    _, patient = np.unique(patients, return_inverse=True)
    return np.asarray(np.bincount(patient, values) / np.bincount(patient))


def paired_t(
    differences: Float[np.ndarray, " lesion"], patients: Shaped[np.ndarray, " lesion"]
) -> Estimate:
    """Estimate a mean difference with patients as units: each patient's mean counts once, and t.

    Returns
    -------
    Estimate
        The difference in its own unit; no interval and p with fewer than three patients.
    """
    means = patient_means(differences, patients)
    method, value, count = "mean of patients' differences (t)", float(means.mean()), len(means)
    counted = len(differences), count
    if count < FEWEST:
        note = f"no interval: {count} of {FEWEST} patients that are needed"
        return Estimate(method, value, NAN, NAN, NAN, *counted, note)
    error = float(np.std(means, ddof=1) / np.sqrt(count))
    low, high = t_interval(value, error, count - 1)
    return Estimate(method, value, low, high, t_test(value, error, count - 1), *counted)


def signed_rank(
    differences: Float[np.ndarray, " lesion"], patients: Shaped[np.ndarray, " lesion"]
) -> Estimate:
    """Compare two values of each lesion by the Wilcoxon signed-rank test of the patients' means.

    Returns
    -------
    Estimate
        The rank-biserial correlation in [-1, 1] (1: every patient's first value is larger) and the
        test's p value. With fewer than six patients it cannot be below 0.05.
    """
    means = patient_means(differences, patients)
    method, counted = "Wilcoxon signed rank of patients' means", (len(differences), len(means))
    kept = means[means != 0]
    if not len(kept):
        return Estimate(method, 0.0, NAN, NAN, 1.0, *counted)
    ranks = stats.rankdata(np.abs(kept))
    value = float((ranks * np.sign(kept)).sum() / ranks.sum())
    note = "cannot be below 0.05 with fewer than six patients" if len(kept) < 6 else ""
    p = float(stats.wilcoxon(kept).pvalue)
    return Estimate(method, value, NAN, NAN, p, *counted, note)


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Correct the p values of a family of tests for their number, by Holm's step-down procedure.

    NaN stays NaN, and does not count as a test.
    """
    # Not by statsmodels, whose function collects garbage each time: a tenth of a second.
    corrected, tests = np.full(len(p), NAN), np.isfinite(p).sum()
    order = np.argsort(p)[:tests]  # NaN comes last
    stepped = np.maximum.accumulate(p[order] * np.arange(tests, 0, -1))
    corrected[order] = np.minimum(stepped, 1)
    return corrected
