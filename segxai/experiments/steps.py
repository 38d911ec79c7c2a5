"""Steps: from which step of a rising series something holds for good."""

from math import inf, isfinite

import numpy as np
from jaxtyping import Bool, Float


def settled_from(steps: Float[np.ndarray, " step"], holds: Bool[np.ndarray, " step"]) -> float:
    """Find the smallest step from which on something holds; infinite if not at the last."""
    missed = np.flatnonzero(~holds)
    if not len(missed):
        return float(steps[0])
    return float(steps[missed[-1] + 1]) if missed[-1] + 1 < len(steps) else inf


def step_in_words(value: float, last: float) -> str:
    """Write a step, or that it lies beyond the last one."""
    return f"{value:g}" if isfinite(value) else f"> {last:g}"
