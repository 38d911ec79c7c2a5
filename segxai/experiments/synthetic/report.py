"""Synthetic lesions: summaries of places, doses of half detection, and the words."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.fills import IN_WORDS
from segxai.experiments.frame import Measured, Report, joined
from segxai.experiments.steps import settled_from, step_in_words
from segxai.experiments.strips import draw_strip
from segxai.experiments.synthetic.figure import draw
from segxai.statistics.bootstrap import percentile_interval
from segxai.statistics.estimate import too_few
from segxai.text import plural


def report(measured: Sequence[tuple[CaseFile, Measured]]) -> Report:
    """Report the experiment.

    Raises
    ------
    SegxaiError
        If no case had a lesion to move.
    """
    moved, doses = joined(measured, "moved"), joined(measured, "doses")
    if not len(moved):
        raise SegxaiError("no result has a detected lesion to move; name one with --label")
    unit = str(moved["unit_of_size"].iloc[0])
    arms, halves = summary(moved), half_doses(doses)
    figures = {"": draw(moved, doses, unit)}
    strip = next((found.pictures for _, found in measured if found.pictures), None)
    if strip is not None:
        figures["strip"] = draw_strip(strip, "mm" if unit == "mm3" else "px")
    tables = {"": moved, "doses": doses, "arms": arms, "half_doses": halves}
    return Report(tables, figures, list(_words(moved, arms, halves, unit)))


def summary(moved: pd.DataFrame) -> pd.DataFrame:
    """Summarise each arm and fill of each model over its places: detection, scores and peaks."""
    peaks = [name for name in moved if "_peak_" in name]
    scores = [f"mean_{score}" for score in ("probability", "logit")]
    found = moved.groupby(["model", "arm", "fill"], sort=False).agg(
        lesions=("case", "nunique"),
        places=("place", "size"),
        detected=("detected", "sum"),
        **{name: (name, "mean") for name in scores},
        **{f"sd_{name.removeprefix('mean_')}": (name, "std") for name in scores},
        **{f"least_{name.removeprefix('mean_')}": (name, "min") for name in scores},
        **{f"most_{name.removeprefix('mean_')}": (name, "max") for name in scores},
        **{name: (name, "median") for name in peaks},
    )
    return found.reset_index()


def half_dose(thresholds: Float[np.ndarray, " place"]) -> float:
    """Return the smallest dose at which half of the places are detected, or more."""
    return float(np.quantile(thresholds, 0.5, method="inverted_cdf"))


def half_doses(doses: pd.DataFrame) -> pd.DataFrame:
    """Find the dose of half detection of each size and model.

    Returns
    -------
    DataFrame
        Beside the dose, the quartiles over places, and a 95 % interval by a bootstrap of patients,
        then scans, then places: NaN with fewer than ten patients.
    """
    rows = []
    groups = doses.groupby(["model", "size"], sort=False) if len(doses) else ()
    for (model, size), one in groups:
        places = one.sort_values("contrast").groupby(["patient", "case", "place"])
        people = [np.array([key[level] for key, _ in places], dtype=str) for level in (0, 1)]
        thresholds = np.array([
            settled_from(place["contrast"].to_numpy(float), place["detected"].to_numpy(bool))
            for _, place in places
        ])  # fmt: skip
        quartiles = np.quantile(thresholds, [0.25, 0.75], method="inverted_cdf")
        low, high = percentile_interval(partial(_half_of, thresholds), people)
        rows.append({
            "model": model, "size": size, "voxels": int(one["voxels"].median()),
            "half_dose": half_dose(thresholds), "low": low, "high": high,
            "lower_quartile": quartiles[0], "upper_quartile": quartiles[1],
            "largest_dose": float(one["contrast"].max()), "places": len(thresholds),
            "patients": len(np.unique(people[0])),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _half_of(thresholds: Float[np.ndarray, " place"], some: Int[np.ndarray, " some"]) -> float:
    return half_dose(thresholds[some])


# --------------------------------------------------------------------------------------- the words


def _words(
    moved: pd.DataFrame, arms: pd.DataFrame, halves: pd.DataFrame, unit: str
) -> Iterator[str]:
    yield "synthetic: a clear lesion moved elsewhere, and made-up ones of graded contrast and size"
    for model, own in moved.groupby("model", sort=False):
        yield (
            f"{model}: {plural(own['case'].nunique(), 'lesion')}, one in each scan, of "
            f"{plural(own['patient'].nunique(), 'patient')}"
        )
        for one in arms[arms["model"] == model].to_dict("records"):
            yield from _words_of_arm(one, [name for name in arms if "_peak_" in name])
        for one in halves.to_dict("records"):
            if one["model"] == model:
                yield _words_of_dose(one, unit)
    yield "fills of the background outside of the head:"
    for fill in dict.fromkeys(moved["fill"]):
        if fill != "none":
            yield f"  {fill}: {IN_WORDS[fill]}"
    if not (moved["arm"] == "outside").any():
        yield "  none: no background has room for the lesion, so that arm is left out"
    yield "peaks are of the map of the mean, not of the signed max, in score per unit of the input"
    if reason := too_few(moved["patient"].nunique()):
        yield f"{reason}; ranges and quartiles are over places"


def _words_of_arm(one: Mapping[str, Any], peaks: Sequence[str]) -> Iterator[str]:
    name = one["arm"] if one["fill"] == "none" else f"{one['arm']}, {one['fill']}"
    highest = ", ".join(f"{peak.replace('_', ' ')} {one[peak]:.3g}" for peak in peaks)
    spread = f" ({one['least_probability']:.2f} to {one['most_probability']:.2f})"
    yield (
        f"  {name}: detected at {one['detected']} of {one['places']} places, mean probability "
        f"{one['mean_probability']:.2f}{spread if one['places'] > 1 else ''}, mean logit "
        f"{one['mean_logit']:.1f}; median {highest}"
    )


def _words_of_dose(one: Mapping[str, Any], unit: str) -> str:
    half, lower, upper, low, high = (
        step_in_words(one[name], one["largest_dose"])
        for name in ("half_dose", "lower_quartile", "upper_quartile", "low", "high")
    )
    text = (
        f"  made up, {one['size']:.0f} {unit}: half detected at {half} times the lesion's "
        f"contrast (quartiles over places {lower} to {upper})"
    )
    return text if np.isnan(one["low"]) else f"{text}, interval {low} to {high}"
