"""Resampling of patients, then scans, then lesions."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, Shaped

from segxai.statistics.estimate import CONFIDENCE, FEWEST_PATIENTS

RESAMPLES, SEED = 999, 0


def percentile_interval(
    statistic: Callable[[Int[np.ndarray, " drawn"]], float],
    levels: list[Shaped[np.ndarray, " lesion"]],
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic: percentiles of its values on resampled lesions.

    Each end is one of these values, and none between two of them, which may be infinite. NaN with
    fewer than ten patients, where a bootstrap of patients covers too little.

    Parameters
    ----------
    statistic : callable
        Maps indices of lesions to a value.
    levels : list of Shaped[np.ndarray, "lesion"]
        As for `resamples`; the first are the patients.
    """
    if len(np.unique(levels[0])) < FEWEST_PATIENTS:
        return float("nan"), float("nan")
    drawn = [statistic(some) for some in resamples(levels, RESAMPLES, SEED)]
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn, ends, method="inverted_cdf")
    return float(low), float(high)


def resamples(
    levels: list[Shaped[np.ndarray, " lesion"]], count: int, seed: int
) -> Iterator[Int[np.ndarray, " drawn"]]:
    """Draw lesions anew, `count` times: with replacement at each level, within those drawn above.

    Parameters
    ----------
    levels : list of Shaped[np.ndarray, "lesion"]
        To whom a lesion belongs, from the outside in: patients, then scans. Names of an inner level
        need to be distinct only within the outer one.
    count : int
        How often.
    seed : int
        The same seed gives the same draws.

    Yields
    ------
    Int[np.ndarray, "drawn"]
        Indices of lesions.
    """
    generator = np.random.default_rng(seed)
    everything = np.arange(len(levels[0]))
    for _ in range(count):
        yield _draw(everything, levels, generator)


def _draw(
    some: Int[np.ndarray, " some"],
    levels: list[Shaped[np.ndarray, " lesion"]],
    generator: np.random.Generator,
) -> Int[np.ndarray, " drawn"]:
    if not levels:
        return generator.choice(some, len(some))
    names, group = np.unique(levels[0][some], return_inverse=True)
    drawn = generator.integers(len(names), size=len(names))
    return np.concatenate([_draw(some[group == one], levels[1:], generator) for one in drawn])
