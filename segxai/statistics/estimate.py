"""What a statistical method says: a value, its interval, and from how many patients."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from segxai.text import plural

FEWEST_PATIENTS = 10  # below, an interval is reported but is no headline
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """One figure with its uncertainty.

    Parameters
    ----------
    method : str
        What was computed, and how.
    value : float
        The figure, in the units that `method` implies (an AUC and Cliff's delta have none).
    low, high : float
        The ends of the 95 % interval; NaN where the method gives none.
    p : float
        Two-sided p value of "no difference"; NaN where there is none.
    lesions, patients : int
        From how many of each it comes.
    note : str
        What a reader must know, such as that patients are ignored.
    """

    method: str
    value: float
    low: float
    high: float
    p: float
    lesions: int
    patients: int
    note: str = ""

    @property
    def is_headline(self) -> bool:
        """Whether there are patients enough (ten) for the interval to be relied on."""
        return self.patients >= FEWEST_PATIENTS


def too_few(patients: int) -> str:
    """Say that patients are too few for intervals; "" if they are enough."""
    if patients >= FEWEST_PATIENTS:
        return ""
    return f"no intervals: {plural(patients, 'patient')}, and at least {FEWEST_PATIENTS} are needed"


def t_interval(value: float, error: float, freedom: int) -> tuple[float, float]:
    """Return the 95 % interval of a value with a standard error and degrees of freedom."""
    reach = stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * error
    return value - reach, value + reach


def t_test(difference: float, error: float, freedom: int) -> float:
    """Return the two-sided p value of a difference; 1 where neither it nor its error is there."""
    if error == 0:
        return float(np.sign(abs(difference)) == 0)
    return float(2 * stats.t.sf(abs(difference) / error, freedom))
