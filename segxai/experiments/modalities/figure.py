"""Figures of modalities: what each channel weighs, and maps from the inside outwards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import (
    STYLE,
    chart,
    colour_of,
    legend_below,
    signed_logarithmic,
)
from segxai.experiments.peaks import RUN, name_of_run

PARTS = ("positive", "negative")
ORDER = ("TP", "FP", "FN", "TN", "")


def draw_boxes(weights: pd.DataFrame, values: pd.DataFrame) -> Figure:
    """Draw what each channel weighs: a row for each run, a panel for each outcome.

    That is the positive and negative part of its map inside the domain, and in rows below, where
    there are any, its Shapley value.
    """
    rows: list[tuple[str, str, pd.DataFrame, Sequence[str]]] = [
        (f"{name_of_run(key)}\nmean in the domain", key[3], own, PARTS)
        for key, own in weights.groupby(RUN, sort=False)
    ]
    for key, own in values.groupby(["model", "score"], sort=False) if len(values) else ():
        rows.append((f"{key[0]}\nShapley value", key[1], own, ["shapley"]))
    outcomes = [name for name in ORDER if (weights["outcome"] == name).any()]
    colours = colour_of(list(dict.fromkeys(weights["channel"])))
    with rc_context(STYLE):
        figure, panels = chart(len(rows), len(outcomes), width=3.2, height=2.9)
        for (name, score, own, parts), row in zip(rows, panels, strict=True):
            for outcome, panel in zip(outcomes, row, strict=True):
                one = own[own["outcome"] == outcome]
                _draw_boxes(panel, one, colours, parts)
                count = len(one) // max(one["channel"].nunique(), 1)
                panel.set_title(f"{outcome or 'all'}: {count}, {score}")
            row[0].set_ylabel(name)
        below = ", and its Shapley value" if len(values) else ""
        title = f"Positive and negative part of each channel's map in the domain{below}"
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_boxes(
    panel: Axes, one: pd.DataFrame, colours: dict[str, str], parts: Sequence[str]
) -> None:
    spread = np.random.default_rng(0)
    for place, (channel, colour) in enumerate(colours.items()):
        own = one[one["channel"] == channel]
        for name in parts:
            values = own[name].to_numpy(float)
            if not len(values):
                continue
            box: Any = panel.boxplot(
                values, positions=[place], widths=0.5, showfliers=False, patch_artist=True
            )
            for part in box["boxes"]:
                part.set(facecolor=colour, alpha=0.3, edgecolor=colour)
            for part in (*box["medians"], *box["whiskers"], *box["caps"]):
                part.set(color=colour)
            around = place + spread.uniform(-0.12, 0.12, len(values))
            panel.scatter(around, values, s=5, color=colour, linewidths=0, zorder=3)
    panel.set_xticks(range(len(colours)), list(colours))
    panel.axhline(0, color="#888888", lw=0.8)


def draw_profile(profile: pd.DataFrame) -> Figure:
    """Draw the mean of each region from the inside outwards: a panel for each outcome."""
    runs = list(profile.groupby(RUN, sort=False))
    outcomes = [name for name in ORDER if (profile["outcome"] == name).any()]
    regions = list(dict.fromkeys(profile["region"]))
    colours = colour_of(list(dict.fromkeys(profile["channel"])))
    with rc_context(STYLE):
        figure, panels = chart(len(runs), len(outcomes), width=4.0, height=3.0)
        for (key, own), row in zip(runs, panels, strict=True):
            for outcome, panel in zip(outcomes, row, strict=True):
                _draw_profile(panel, own[own["outcome"] == outcome], regions, colours)
                panel.set_title(f"{outcome or 'all'}, {key[3]}")
            row[0].set_ylabel(f"{name_of_run(key)}\nmean of the region")
        legend_below(figure, panels[0][0], columns=3 * len(colours))
        figure.suptitle("Maps from the inside of a domain outwards (distances in mm or px)")
    return figure


def _draw_profile(
    panel: Axes, own: pd.DataFrame, regions: Sequence[str], colours: dict[str, str]
) -> None:
    for channel, colour in colours.items():
        one = own[own["channel"] == channel].set_index("region").reindex(regions)
        places = np.arange(len(regions))
        panel.fill_between(places, one["negative"], one["positive"], color=colour, alpha=0.15, lw=0)
        panel.plot(places, one["net"], "-o", ms=3, color=colour, label=f"{channel}: mean")
    panel.plot([], [], color="#bbbbbb", lw=6, alpha=0.6, label="its positive and negative parts")
    panel.axhline(0, color="#888888", lw=0.8)
    panel.set_xticks(range(len(regions)), regions, rotation=60, fontsize=7)
    signed_logarithmic(panel, float(own["net"].abs().max()) if len(own) else 0.0)
