"""Context: the tables, the figures and the words."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from segxai.experiments.context.curves import (
    ARM,
    all_detected_from,
    arms_of,
    curves_of,
    in_order,
    matrix_of,
    plateaus_of,
)
from segxai.experiments.context.figure import draw
from segxai.experiments.fills import IN_WORDS
from segxai.experiments.frame import CaseFile, Measured, Report, joined
from segxai.experiments.steps import step_in_words
from segxai.experiments.strips import draw_strip
from segxai.statistics.estimate import FEWEST_PATIENTS


def report(measured: Sequence[tuple[CaseFile, Measured]]) -> Report:
    """Report the experiment."""
    table = joined(measured, "steps")
    unit = "px" if "area_px" in table else "mm"
    curves, plateaus = curves_of(table), plateaus_of(table)
    figures = {"": draw(table, curves, plateaus, unit)}
    strip = next((found.pictures for _, found in measured if found.pictures), None)
    if strip is not None:
        figures["strip"] = draw_strip(strip, unit)
    tables = {"": table, "curves": curves, "plateaus": plateaus}
    return Report(tables, figures, list(_words(table, curves, plateaus, unit)))


def _words(
    table: pd.DataFrame, curves: pd.DataFrame, plateaus: pd.DataFrame, unit: str
) -> Iterator[str]:
    clean = table[table["fill"] == "none"]
    yield "context: everything outside of an instance is filled, then given back by distance"
    for model, one in clean.groupby("model", sort=False):
        patients, scans = one["patient"].nunique(), one["case"].nunique()
        yield (
            f"{model}: {len(one)} instances in {scans} scans of {patients} patients, "
            f"{int(one['detected'].sum())} detected in the unfilled image"
        )
        yield (
            f"  its influence falls under 1 % of the largest at {one['reach'].median():.1f} {unit} "
            f"(median), and is 0 beyond {one['receptive_field'].max():.1f} {unit}: a plateau "
            "cannot lie farther out"
        )
        for (name, *_), arm in arms_of(table):
            if name == model:
                yield from _words_of_arm(arm, one, curves, plateaus, unit)
    yield "fills, also outside of the brain or object:"
    for fill in dict.fromkeys(table["fill"]):
        if fill != "none":
            yield f"  {fill}: {IN_WORDS[fill]}"
    if "black" not in set(table["fill"]):
        yield "  black is left out: it is 0 here, as zero, or is not known"
    if clean["patient"].nunique() < FEWEST_PATIENTS:
        yield (
            f"no interval: {clean['patient'].nunique()} patients, and below {FEWEST_PATIENTS} a "
            "bootstrap of patients covers too little"
        )
    else:
        yield "intervals: percentiles of a bootstrap of patients, then scans, then instances (95 %)"


def _words_of_arm(
    arm: pd.DataFrame,
    clean: pd.DataFrame,
    curves: pd.DataFrame,
    plateaus: pd.DataFrame,
    unit: str,
) -> Iterator[str]:
    model, fill, grown = (str(arm[name].iloc[0]) for name in ARM)

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        same = (frame["model"] == model) & (frame["fill"] == fill) & (frame["grown"] == grown)
        return frame[same]

    curve = own(curves).sort_values("step")
    ends = [
        f"{one['score']} {_plateau_in_words(one, unit)}" for one in own(plateaus).to_dict("records")
    ]
    first, widest = curve.iloc[0], curve.loc[curve["sd_probability"].fillna(-1).idxmax()]
    falls = bool((np.diff(curve["mean_probability"]) < -0.02).any())
    steps, detected = matrix_of(arm, "detected")
    whole = in_order(clean, "detected").to_numpy(bool)
    enough = all_detected_from(steps, detected > 0, whole)
    at = f"from {enough:g} {unit}" if isfinite(enough) else f"not within {steps[-1]:g} {unit}"
    yield (
        f"  {fill}{', by dilation' if grown == 'dilation' else ''}: alone, "
        f"{int(first['detected'])} of {int(first['instances'])} detected, mean probability "
        f"{first['mean_probability']:.2f}; plateau: {', '.join(ends)}; all that the whole image "
        f"shows are detected {at}; deviation largest ({widest['sd_probability']:.2f}) at "
        f"{widest['step']:g} {unit}{'; the curve is not monotonic' if falls else ''}"
    )


def _plateau_in_words(one: Mapping[str, Any], unit: str) -> str:
    value, low, high = (
        step_in_words(one[name], one["last_step"]) for name in ("plateau", "low", "high")
    )
    return f"{value} {unit}" if np.isnan(one["low"]) else f"{value} ({low} to {high}) {unit}"
