"""Context: from the scores of each instance to curves, plateaus, the figure and the words."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import STYLE, chart, colour_of, legend_below
from segxai.experiments.fills import FILLS, IN_WORDS
from segxai.experiments.frame import CaseFile, Measured, Report, joined
from segxai.experiments.strips import draw_strip
from segxai.statistics.bootstrap import resamples
from segxai.statistics.estimate import CONFIDENCE, FEWEST_PATIENTS

WITHIN = 0.05  # of the unfilled value (probability), or of the curve's range (logit)
SCORES = ("probability", "logit")
RESAMPLES, SEED = 999, 0
ARM = ["model", "fill", "grown"]  # one curve each


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
    far = np.flatnonzero(np.abs(curve - unfilled) > slack)
    if not len(far):
        return float(steps[0])
    return float(steps[far[-1] + 1]) if far[-1] + 1 < len(steps) else inf


def plateaus_of(table: pd.DataFrame) -> pd.DataFrame:
    """Find the plateau of each curve, with its 95 % interval by a bootstrap of patients.

    The interval is left out, as NaN, with fewer than ten patients.
    """
    rows = []
    for (model, fill, grown), arm in _arms(table):
        clean = table[(table["model"] == model) & (table["fill"] == "none")]
        for score in SCORES:
            steps, values = _matrix(arm, f"mean_{score}")
            unfilled = _in_order(clean, f"mean_{score}")
            people = [_in_order(clean, name) for name in ("patient", "case")]
            found = plateau(steps, values.mean(axis=0), float(unfilled.mean()), score=score)
            patients = len(np.unique(people[0]))
            low, high = nan, nan
            if patients >= FEWEST_PATIENTS:
                low, high = _interval(steps, values, unfilled, people, score)
            one = {"model": model, "fill": fill, "grown": grown, "score": score, "plateau": found}
            rows.append({**one, "low": low, "high": high, "last_step": steps[-1],
                         "instances": len(values), "patients": patients})  # fmt: skip
    return pd.DataFrame(rows)


def _arms(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield each fill of each model, in the order of the table."""
    filled = table[table["fill"] != "none"]
    yield from filled.groupby(ARM, sort=False)


def _matrix(
    arm: pd.DataFrame, name: str
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "instance step"]]:
    """Arrange a column by instance, in the order of case and label, and by step."""
    wide = arm.pivot_table(index=["patient", "case", "label"], columns="step", values=name)
    return wide.columns.to_numpy(float), wide.to_numpy(float)


def _in_order(clean: pd.DataFrame, name: str) -> Shaped[np.ndarray, " instance"]:
    ordered = clean.sort_values(["patient", "case", "label"])[name]
    return ordered.to_numpy(float) if name.startswith("mean_") else ordered.to_numpy(str)


def _interval(
    steps: Float[np.ndarray, " step"],
    values: Float[np.ndarray, "instance step"],
    unfilled: Float[np.ndarray, " instance"],
    people: list[Shaped[np.ndarray, " instance"]],
    score: str,
) -> tuple[float, float]:
    """Return the percentiles of the plateau over resampled patients, scans and instances."""
    drawn = [
        plateau(steps, values[some].mean(axis=0), float(unfilled[some].mean()), score=score)
        for some in resamples(people, RESAMPLES, SEED)
    ]
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn, ends, method="inverted_cdf")  # no mean with infinity
    return float(low), float(high)


def all_detected_from(
    steps: Float[np.ndarray, " step"],
    detected: Bool[np.ndarray, "instance step"],
    unfilled: Bool[np.ndarray, " instance"],
) -> float:
    """Find the smallest step from which each instance that is detected unfilled stays detected."""
    missing = (unfilled[:, None] & ~detected).any(axis=0)
    last = np.flatnonzero(missing)
    if not len(last):
        return float(steps[0])
    return float(steps[last[-1] + 1]) if last[-1] + 1 < len(steps) else inf


# -------------------------------------------------------------------------------------- the figure


def draw(table: pd.DataFrame, curves: pd.DataFrame, plateaus: pd.DataFrame, unit: str) -> Figure:
    """Draw the curves: a row for each model; reach and receptive field are vertical lines."""
    models = list(dict.fromkeys(table["model"]))
    with rc_context(STYLE):
        figure, panels = chart(len(models), 4, width=3.3, height=3.0)
        for model, row in zip(models, panels, strict=True):
            _draw_model(row, model, table, curves, plateaus, unit)
        legend_below(figure, panels[0][0], columns=8)
        count = table[table["fill"] == "none"].groupby("model")["label"].size().max()
        figure.suptitle(
            f"Given back around {count} instances: what the model needs to see", fontsize=12
        )
    return figure


def _draw_model(
    row: Sequence[Axes],
    model: str,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    plateaus: pd.DataFrame,
    unit: str,
) -> None:
    colours = colour_of(FILLS)
    own = curves[curves["model"] == model]
    clean = own[own["fill"] == "none"].iloc[0]
    names = ("mean_probability", "sd_probability", "mean_logit", "detected")
    heads = ("mean probability", "its standard deviation", "mean logit", "number detected")
    last = float(own["step"].max())
    for panel, name, head in zip(row, names, heads, strict=True):
        for (fill, grown), arm in own[own["fill"] != "none"].groupby(["fill", "grown"], sort=False):
            style = "--" if grown == "dilation" else "-"
            label = f"{fill}, by dilation" if grown == "dilation" else fill
            panel.plot(arm["step"], arm[name], style, color=colours[fill], label=label, lw=1.5)
        panel.axhline(clean[name], color="black", lw=0.8, ls=":", label="unfilled image")
        panel.set(title=head, xlabel=f"given back up to ({unit})", xlim=(0, last))
    _mark_reach(row, table[table["model"] == model], last, unit)
    for panel, score in ((row[0], "probability"), (row[2], "logit")):
        _mark_plateaus(panel, own, plateaus[plateaus["model"] == model], score, colours)
    row[0].set(ylim=(0, 1.02))
    row[3].set(ylim=(0, clean["instances"] * 1.05))
    row[0].set_ylabel(model)


def _mark_reach(row: Sequence[Axes], table: pd.DataFrame, last: float, unit: str) -> None:
    """Draw how far the network looks, or say it in words where that is beyond the axis."""
    one = table[table["fill"] == "none"]
    for panel in row:
        for value, colour, words in (
            (float(one["reach"].median()), "#7b1fa2", "1 % of the influence"),
            (float(one["receptive_field"].max()), "#5d4037", "receptive field"),
        ):
            inside = value <= last
            text = f"{words} {value:.1f} {unit}" + ("" if inside else " (beyond)")
            panel.axvline(value if inside else nan, color=colour, lw=1.0, ls="-.", label=text)


def _mark_plateaus(
    panel: Axes, curves: pd.DataFrame, plateaus: pd.DataFrame, score: str, colours: dict[str, str]
) -> None:
    """Put a triangle where a curve has reached its plateau."""
    of_score = plateaus[(plateaus["score"] == score) & (plateaus["grown"] == "distance")]
    for one in of_score.itertuples():
        arm = curves[(curves["fill"] == one.fill) & (curves["grown"] == "distance")]
        at = arm[arm["step"] == one.plateau]
        if len(at):
            panel.plot(one.plateau, at[f"mean_{score}"].iloc[0], "v", color=colours[one.fill], ms=6)


# --------------------------------------------------------------------------------------- the words


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
        for (name, *_), arm in _arms(table):
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
    steps, detected = _matrix(arm, "detected")
    whole = _in_order(clean, "detected") == "True"
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
        _step_in_words(one[name], one["last_step"]) for name in ("plateau", "low", "high")
    )
    return f"{value} {unit}" if np.isnan(one["low"]) else f"{value} ({low} to {high}) {unit}"


def _step_in_words(value: float, last: float) -> str:
    return f"{value:g}" if isfinite(value) else f"> {last:g}"
