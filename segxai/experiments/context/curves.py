"""Curves of a context experiment: scores by distance, and where they reach their plateau."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from segxai.experiments.steps import settled_from
from segxai.statistics.bootstrap import percentile_interval

WITHIN = 0.05  # of the unfilled value (probability), or of the curve's range (logit)
SCORES = ("probability", "logit")
ARM = ["model", "fill", "grown"]  # one curve each
INSTANCE = ["patient", "case", "label"]


def curves_of(table: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of all instances at each step of each fill, for each model.

    Returns
    -------
    DataFrame
        Columns model, fill ("none" for the unchanged image), grown, step, instances, detected,
        and mean and standard deviation (`ddof` 1) over instances of the mean probability and the
        mean logit in the domain.
    """
    groups = table.groupby([*ARM, "step"], dropna=False, sort=False)
    return groups.agg(
        instances=("label", "size"),
        detected=("detected", "sum"),
        mean_probability=("mean_probability", "mean"),
        sd_probability=("mean_probability", "std"),
        mean_logit=("mean_logit", "mean"),
        sd_logit=("mean_logit", "std"),
    ).reset_index()


def plateau(
    steps: Float[np.ndarray, " step"],
    curve: Float[np.ndarray, " step"],
    unfilled: float,
    *,
    score: str,
) -> float:
    """Find the smallest step from which a curve stays near the value of the unfilled image.

    Near is within 5 % of that value for a probability, and within 5 % of the curve's range, the
    unfilled value included, for a logit, whose zero means nothing.

    Returns
    -------
    float
        Infinite where the curve is not near at its last step.
    """
    if score == "probability":
        slack = WITHIN * abs(unfilled)
    else:
        slack = WITHIN * (max(curve.max(), unfilled) - min(curve.min(), unfilled))
    return settled_from(steps, np.abs(curve - unfilled) <= slack)


def plateaus_of(table: pd.DataFrame) -> pd.DataFrame:
    """Find the plateau of each curve, with its 95 % interval by a bootstrap of patients.

    The interval is left out, as NaN, with fewer than ten patients.
    """
    rows = []
    for key, arm in arms_of(table):
        clean = table[(table["model"] == key[0]) & (table["fill"] == "none")]
        people = [in_order(clean, name).to_numpy(str) for name in ("patient", "case")]
        for score in SCORES:
            steps, values = matrix_of(arm, f"mean_{score}")
            unfilled = in_order(clean, f"mean_{score}").to_numpy(float)
            found = partial(_plateau_of, steps, values, unfilled, score)
            low, high = percentile_interval(found, people)
            rows.append({
                **dict(zip(ARM, key, strict=True)), "score": score,
                "plateau": found(np.arange(len(values))), "low": low, "high": high,
                "last_step": steps[-1], "instances": len(values),
                "patients": len(np.unique(people[0])),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _plateau_of(
    steps: Float[np.ndarray, " step"],
    values: Float[np.ndarray, "instance step"],
    unfilled: Float[np.ndarray, " instance"],
    score: str,
    some: Int[np.ndarray, " some"],
) -> float:
    """Find the plateau of the mean curve of some instances."""
    return plateau(steps, values[some].mean(axis=0), float(unfilled[some].mean()), score=score)


def arms_of(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield each fill of each model, in the order of the table."""
    filled = table[table["fill"] != "none"]
    yield from filled.groupby(ARM, sort=False)


def matrix_of(
    arm: pd.DataFrame, name: str
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "instance step"]]:
    """Arrange a column by instance, in the order of case and label, and by step."""
    wide = arm.pivot_table(index=INSTANCE, columns="step", values=name)
    return wide.columns.to_numpy(float), wide.to_numpy(float)


def in_order(clean: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of the unfilled image, in the order of the rows of `matrix_of`."""
    return clean.sort_values(INSTANCE)[name]


def all_detected_from(
    steps: Float[np.ndarray, " step"],
    detected: Bool[np.ndarray, "instance step"],
    unfilled: Bool[np.ndarray, " instance"],
) -> float:
    """Find the smallest step from which each instance that is detected unfilled stays detected."""
    return settled_from(steps, (detected | ~unfilled[:, None]).all(axis=0))
