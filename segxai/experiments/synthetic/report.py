"""Synthetic lesions: summaries of places, doses of half detection, the figure and the words."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.errors import SegxaiError
from segxai.experiments.drawing import COLOURS, STYLE, chart
from segxai.experiments.fills import IN_WORDS
from segxai.experiments.frame import CaseFile, Measured, Report, joined
from segxai.experiments.strips import draw_strip
from segxai.statistics.bootstrap import resamples
from segxai.statistics.estimate import CONFIDENCE, FEWEST_PATIENTS

RESAMPLES, SEED = 999, 0
ORIGINAL = "where it was"


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


def threshold_dose(
    contrasts: Float[np.ndarray, " dose"], detected: Bool[np.ndarray, " dose"]
) -> float:
    """Find the smallest dose from which a lesion stays detected; infinite if the last is not."""
    missed = np.flatnonzero(~detected)
    if not len(missed):
        return float(contrasts[0])
    return float(contrasts[missed[-1] + 1]) if missed[-1] + 1 < len(contrasts) else inf


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
        found = [
            (patient, case, threshold_dose(*_ordered(place)))
            for (patient, case, _), place in one.groupby(["patient", "case", "place"])
        ]
        patients, cases = (np.array([row[n] for row in found]) for n in (0, 1))
        thresholds = np.array([row[2] for row in found])
        quartiles = np.quantile(thresholds, [0.25, 0.75], method="inverted_cdf")
        low, high = nan, nan
        if len(np.unique(patients)) >= FEWEST_PATIENTS:
            drawn = resamples([patients, cases], RESAMPLES, SEED)
            ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
            values = [half_dose(thresholds[some]) for some in drawn]
            low, high = np.quantile(values, ends, method="inverted_cdf")
        rows.append({
            "model": model, "size": size, "voxels": int(one["voxels"].median()),
            "half_dose": half_dose(thresholds), "low": low, "high": high,
            "lower_quartile": quartiles[0], "upper_quartile": quartiles[1],
            "largest_dose": float(one["contrast"].max()), "places": len(thresholds),
            "patients": len(np.unique(patients)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _ordered(place: pd.DataFrame) -> tuple[Float[np.ndarray, " dose"], Bool[np.ndarray, " dose"]]:
    place = place.sort_values("contrast")
    return place["contrast"].to_numpy(float), place["detected"].to_numpy(bool)


# -------------------------------------------------------------------------------------- the figure


def draw(moved: pd.DataFrame, doses: pd.DataFrame, unit: str) -> Figure:
    """Draw a row for each model: scores by arm, and surfaces over contrast and size."""
    models = list(dict.fromkeys(moved["model"]))
    with rc_context(STYLE):
        figure, panels = chart(len(models), 4, width=3.6, height=3.4)
        for model, row in zip(models, panels, strict=True):
            own = moved[moved["model"] == model]
            _draw_arms(row[0], own, "mean_probability", names=True)
            _draw_arms(row[1], own, "mean_logit", names=False)
            graded = doses[doses["model"] == model] if len(doses) else doses
            for panel, name, head in (
                (row[2], "detected", "share detected"),
                (row[3], "mean_probability", "mean probability"),
            ):
                _draw_surface(panel, graded, name, f"made up: {head}", unit, figure)
            row[0].set_title(f"{model}: mean probability")
            row[1].set_title("mean logit")
        figure.suptitle("A clear lesion moved, and made-up ones added", fontsize=12)
    return figure


def _draw_arms(panel: Axes, moved: pd.DataFrame, name: str, *, names: bool) -> None:
    """Draw the places of each arm as dots, hollow where nothing is detected, with their mean."""
    arms = list(moved.groupby(["arm", "fill"], sort=False))
    spread = np.random.default_rng(0)
    for height, ((arm, _), one) in enumerate(reversed(arms)):
        around = height + spread.uniform(-0.18, 0.18, len(one)) * (len(one) > 1)
        colour = COLOURS[7] if arm == "nothing there" else COLOURS[0]
        fills = [colour if hit else "white" for hit in one["detected"]]
        panel.scatter(one[name], around, s=16, c=fills, edgecolors=colour, linewidths=0.9, zorder=3)
        panel.plot([one[name].mean()] * 2, [height - 0.3, height + 0.3], color="black", lw=1.6)
    labels = [arm if fill == "none" else f"{arm}, {fill}" for (arm, fill), _ in reversed(arms)]
    panel.set_yticks(range(len(arms)), labels if names else [])
    panel.set_xlabel("filled dots: detected; bar: mean")
    if name == "mean_probability":
        panel.set_xlim(-0.03, 1.03)


def _draw_surface(
    panel: Axes, doses: pd.DataFrame, name: str, title: str, unit: str, figure: Figure
) -> None:
    panel.set_title(title)
    if not len(doses):
        panel.set(xticks=[], yticks=[])
        panel.text(0.5, 0.5, "no healthy place found", ha="center", transform=panel.transAxes)
        return
    wide = doses.pivot_table(index="size", columns="contrast", values=name, aggfunc="mean")
    values = wide.to_numpy(float)
    shown = panel.imshow(values, cmap="viridis", vmin=0, vmax=1, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < 0.6 else "black"
        panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=ink)
    panel.set_xticks(range(wide.shape[1]), [f"{one:g}" for one in wide.columns])
    panel.set_yticks(range(wide.shape[0]), [f"{one:.0f}" for one in wide.index])
    panel.set(xlabel="contrast (1: as the lesion)", ylabel=f"size ({unit})")
    panel.grid(visible=False)
    figure.colorbar(shown, ax=panel, shrink=0.85)


# --------------------------------------------------------------------------------------- the words


def _words(
    moved: pd.DataFrame, arms: pd.DataFrame, halves: pd.DataFrame, unit: str
) -> Iterator[str]:
    yield "synthetic: a clear lesion moved elsewhere, and made-up ones of graded contrast and size"
    for model, own in moved.groupby("model", sort=False):
        yield (
            f"{model}: one lesion in each of {own['case'].nunique()} scans of "
            f"{own['patient'].nunique()} patients"
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
        yield "  none: there is no background in which the lesion has room, so that arm is left out"
    yield "peaks are of the map of the mean of the rows, and not of the signed max"
    if moved["patient"].nunique() < FEWEST_PATIENTS:
        yield (
            f"no interval: {moved['patient'].nunique()} patients, below {FEWEST_PATIENTS}; spreads "
            "are between places"
        )


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
    def words(dose: float) -> str:
        return f"{dose:g}" if isfinite(dose) else f"> {one['largest_dose']:g}"

    half, lower, upper, low, high = (
        words(one[name])
        for name in ("half_dose", "lower_quartile", "upper_quartile", "low", "high")
    )
    text = (
        f"  made up, {one['size']:.0f} {unit}: half detected at {half} of the lesion's contrast "
        f"(quartiles of places {lower} to {upper})"
    )
    return text if np.isnan(one["low"]) else f"{text}, interval {low} to {high}"
