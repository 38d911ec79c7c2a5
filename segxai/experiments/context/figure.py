"""The figure of a context experiment: a row of curves for each model."""

from collections.abc import Sequence
from math import nan

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import STYLE, chart, colour_of, legend_below
from segxai.experiments.fills import FILLS
from segxai.text import plural


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
            f"Given back around {plural(int(count), 'instance')}: what the model needs to see",
            fontsize=12,
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
