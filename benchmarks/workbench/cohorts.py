"""Made-up cohorts: lesions within patients, in two groups whose share varies between patients."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

CORRELATION = 0.3  # of two lesions of one patient
SIZES = (42, 21)  # mean and standard deviation of the number of lesions of a patient
DESIGNS = ("frequency", "size", "level")


def cohort(
    generator: np.random.Generator, patients: int, *, auc: float = 0.5, design: str = "frequency"
) -> tuple[Float[np.ndarray, " lesion"], Bool[np.ndarray, " lesion"], Int[np.ndarray, " lesion"]]:
    """Draw the values, groups and patients of lesions.

    The share of the first group varies between patients, from 0.1 to 0.9: independent of the
    values ("frequency"); the same, and patients with larger values have more lesions ("size"); or
    it rises with a patient's level ("level"), so that pooled values differ, and those within
    patients do not.

    Parameters
    ----------
    generator : np.random.Generator
        Where random numbers come from.
    patients : int
        How many there are.
    auc : float, default 0.5
        The AUC of the first group for two lesions of different patients, under "frequency".
    design : {"frequency", "size", "level"}
        What varies between patients.
    """
    level, spread = generator.standard_normal((2, patients))
    if design == "size":
        spread = 0.6 * level + 0.8 * spread
    sizes = np.maximum(np.rint(SIZES[0] + SIZES[1] * spread), 3).astype(int)
    share = generator.uniform(0.1, 0.9, patients)
    if design == "level":
        share = np.clip(0.5 + 0.25 * level, 0.1, 0.9)
    patient = np.repeat(np.arange(patients), sizes)
    in_first = generator.random(len(patient)) < share[patient]
    values = np.sqrt(CORRELATION) * level[patient]
    values = values + np.sqrt(1 - CORRELATION) * generator.standard_normal(len(patient))
    # The difference of two lesions has variance 2.
    return values + np.sqrt(2) * norm.ppf(auc) * in_first, in_first, patient


def within_auc(auc: float) -> float:
    """Return the AUC of two lesions of one patient, if that of lesions of two patients is `auc`."""
    return float(norm.cdf(norm.ppf(auc) / np.sqrt(1 - CORRELATION)))
