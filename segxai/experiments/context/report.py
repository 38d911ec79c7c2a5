"""Context: the tables, the figures and the words."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from segxai.experiments.cases import CaseFile
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
from segxai.experiments.frame import Measured, Report, joined
from segxai.experiments.steps import step_in_words
from segxai.experiments.strips import draw_strip
from segxai.statistics.estimate import too_few
from segxai.text import plural


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
            f"{model}: {plural(len(one), 'instance')} in {plural(scans, 'scan')} of "
            f"{plural(patients, 'patient')}, "
            f"{int(one['detected'].sum())} detected in the unfilled image"
        )
        yield (
            "  the influence of a voxel on the mean logit falls below 1 % of the largest at "
            f"{one['reach'].median():.1f} {unit} (median), and is 0 beyond "
            f"{one['receptive_field'].max():.1f} {unit}, so that no plateau can lie farther out"
        )
        for (name, *_), arm in arms_of(table):
            if name == model:
                yield from _words_of_arm(arm, one, curves, plateaus, unit)
    yield "fills, which also replace what lies outside of the brain or object:"
    for fill in dict.fromkeys(table["fill"]):
        if fill != "none":
            yield f"  {fill}: {IN_WORDS[fill]}"
    if "black" not in set(table["fill"]):
        yield "  black is left out: it is the same as zero here, or not known"
    yield too_few(clean["patient"].nunique()) or (
        "intervals: 95 %, percentiles of a bootstrap of patients, then scans, then instances"
    )


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
    at = f"from {enough:g} {unit}" if isfinite(enough) else f"at more than {steps[-1]:g} {unit}"
    yield (
        f"  {fill}{', by dilation' if grown == 'dilation' else ''}: alone, "
        f"{int(first['detected'])} of {int(first['instances'])} detected, mean probability "
        f"{first['mean_probability']:.2f}; plateau: {', '.join(ends)}; all that are detected in "
        f"the whole image are detected {at}; standard deviation largest "
        f"({widest['sd_probability']:.2f}) at {widest['step']:g} {unit}"
        f"{'; the mean probability falls on part of the way' if falls else ''}"
    )


def _plateau_in_words(one: Mapping[str, Any], unit: str) -> str:
    value, low, high = (
        step_in_words(one[name], one["last_step"]) for name in ("plateau", "low", "high")
    )
    return f"{value} {unit}" if np.isnan(one["low"]) else f"{value} ({low} to {high}) {unit}"
