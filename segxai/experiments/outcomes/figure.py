"""Outcomes: violins of the extremes, and a forest of effects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import (
    COLOURS,
    OUTCOME_COLOURS,
    STYLE,
    chart,
    legend_below,
)
from segxai.experiments.peaks import EXTREMES
from segxai.statistics.estimate import FEWEST_PATIENTS

ORDER = ("TN", "FN", "FP", "TP")
FEWEST = 4  # domains, below which a violin means nothing
SHOWN = {
    "AUC, jackknife over patients (logit, t)": "all pairs of lesions",
    "AUC within patients (mean, t)": "within patients",
}


def draw_violins(peaks: pd.DataFrame, title: str) -> Figure:
    """Draw a row for each channel, a column for each score and extreme; a dot is a domain."""
    channels, scores = (list(dict.fromkeys(peaks[name])) for name in ("channel", "score"))
    columns = [(score, extreme) for score in scores for extreme in EXTREMES]
    with rc_context(STYLE):
        figure, panels = chart(len(channels), len(columns), width=2.9, height=2.5)
        for channel, row in zip(channels, panels, strict=True):
            for (score, extreme), panel in zip(columns, row, strict=True):
                same = (peaks["channel"] == channel) & (peaks["score"] == score)
                _draw_groups(panel, peaks[same & (peaks["extreme"] == extreme)])
                panel.set_title(f"{score}: {extreme}")
            row[0].set_ylabel(channel)
        figure.suptitle(f"Extremes of maps by outcome: {title}", fontsize=12)
    return figure


def _draw_groups(panel: Axes, own: pd.DataFrame) -> None:
    names = [name for name in ORDER if (own["outcome"] == name).any()]
    spread = np.random.default_rng(0)
    for place, name in enumerate(names):
        values = own.loc[own["outcome"] == name, "value"].to_numpy(float)
        colour = OUTCOME_COLOURS[name]
        if len(values) >= FEWEST and np.ptp(values) > 0:
            parts = panel.violinplot(values, [place], widths=0.8, showextrema=False)
            bodies: Any = parts["bodies"]
            for body in bodies:
                body.set(facecolor=colour, alpha=0.35, edgecolor=colour)
        around = place + spread.uniform(-0.12, 0.12, len(values))
        panel.scatter(around, values, s=5, color=colour, linewidths=0, zorder=3)
        panel.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color="black", lw=1.6)
    counts = own["outcome"].value_counts()
    panel.set_xticks(range(len(names)), [f"{name}\n{counts[name]}" for name in names])
    panel.axhline(0, color="#888888", lw=0.7)
    panel.set_xlim(-0.6, max(len(names), 1) - 0.4)


def draw_forest(effects: pd.DataFrame, title: str) -> Figure:
    """Draw the AUC of each pair of outcomes, a panel for each channel; a column for each score."""
    shown = effects[effects["statistic"].isin(SHOWN)] if len(effects) else effects
    with rc_context(STYLE):
        if not len(shown):
            figure, panels = chart(1, 1)
            panels[0][0].set(xticks=[], yticks=[])
            words = "no two outcomes have\ntwo domains each"
            panels[0][0].text(0.5, 0.5, words, ha="center", transform=panels[0][0].transAxes)
            return figure
        channels, scores = (list(dict.fromkeys(shown[name])) for name in ("channel", "score"))
        lines = shown.drop_duplicates(["extreme", "first", "second"])
        height = 1.2 + 0.3 * len(lines)
        figure, panels = chart(len(channels), len(scores), width=4.6, height=height)
        for channel, row in zip(channels, panels, strict=True):
            for score, panel in zip(scores, row, strict=True):
                own = shown[(shown["channel"] == channel) & (shown["score"] == score)]
                _draw_effects(panel, own, lines[["extreme", "first", "second"]].values.tolist())
                panel.set_title(f"{channel}, {score}")
        legend_below(figure, panels[0][0])
        few = effects["patients"].max() < FEWEST_PATIENTS
        note = f" (no intervals: fewer than {FEWEST_PATIENTS} patients)" if few else ""
        figure.suptitle(f"Effects between outcomes: {title}{note}", fontsize=12)
    return figure


def _draw_effects(panel: Axes, own: pd.DataFrame, lines: Sequence[Sequence[str]]) -> None:
    for number, (statistic, words) in enumerate(SHOWN.items()):
        first = True
        for place, (extreme, one, other) in enumerate(lines):
            same = (own["extreme"] == extreme) & (own["first"] == one) & (own["second"] == other)
            for row in own[same & (own["statistic"] == statistic)].to_dict("records"):
                height = place + 0.16 * (number - 0.5)
                label = words if first else None
                first = False
                if row["headline"] and not np.isnan(row["low"]):
                    panel.plot(
                        [row["low"], row["high"]], [height] * 2, color=COLOURS[number], lw=1.4
                    )
                panel.plot(row["value"], height, "o", ms=4.5, color=COLOURS[number], label=label)
    panel.axvline(0.5, color="#888888", lw=0.8)
    labels = [f"{extreme}: {one} against {other}" for extreme, one, other in lines]
    panel.set_yticks(range(len(lines)), labels)
    panel.set(xlim=(-0.02, 1.02), xlabel="AUC: chance that the first is larger")
    panel.invert_yaxis()
