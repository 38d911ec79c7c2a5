"""The matrix: each pair of runs by each measure, between floor and ceiling, as a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from segxai.compare.measures import MEASURES, Measure
from segxai.report.panels import FONT
from segxai.report.sheet import by_default

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
BAND, DARK = "#dcdce2", "#33333a"
WIDTH, ROW, EDGE, HEAD, FOOT = 1.35, 0.42, 3.2, 0.75, 0.75  # inches
TEXT: dict[str, Any] = {"family": FONT, "color": DARK, "parse_math": False}


@by_default
def draw_matrix(summary: pd.DataFrame, title: str) -> Figure:
    """Draw the means of a comparison: a row for each pair of runs, a column for each measure.

    A dot is the mean of a channel, its line the 95 % interval where there is one. The grey band
    reaches from the floor to the ceiling, and has a tick at each end that is known.

    Parameters
    ----------
    summary : DataFrame
        As `segxai.compare.table.summarised` makes it.
    title : str
        Above the figure.
    """
    shown = summary[(summary["second"] != "") & summary["value"].notna()]
    pairs = list(dict.fromkeys(zip(shown["first"], shown["second"], strict=True)))
    measures = [one for one in MEASURES if one.name in set(shown["metric"])]
    channels = list(dict.fromkeys(shown["channel"]))
    height = HEAD + len(pairs) * ROW + FOOT
    figure = Figure(figsize=(EDGE + WIDTH * len(measures) + 0.2, height), facecolor="white")
    FigureCanvasAgg(figure)
    width = figure.get_figwidth()
    for column, measure in enumerate(measures):
        left = (EDGE + column * WIDTH + 0.06) / width
        place = (left, FOOT / height, (WIDTH - 0.12) / width, len(pairs) * ROW / height)
        panel = figure.add_axes(place)
        _fill(panel, shown[shown["metric"] == measure.name], measure, pairs, channels)
        if column == 0:
            names = [f"{first}\n{second}" for first, second in pairs]
            panel.set_yticks(range(len(pairs)), names, **TEXT, fontsize=_fitting(names))
            panel.tick_params(axis="y", length=0)
    figure.text(0.1 / width, 1 - 0.12 / height, title, **TEXT, fontsize=11, va="top", weight="bold")
    _explain(figure, channels, width, height)
    return figure


def _fill(
    panel: Axes,
    values: pd.DataFrame,
    measure: Measure,
    pairs: Sequence[tuple[str, str]],
    channels: Sequence[str],
) -> None:
    """Draw one measure of all pairs."""
    offsets = np.linspace(-0.25, 0.25, len(channels)) if len(channels) > 1 else [0.0]
    for row in values.to_dict("records"):
        y = pairs.index((row["first"], row["second"])) + offsets[channels.index(row["channel"])]
        colour = COLOURS[channels.index(row["channel"]) % len(COLOURS)]
        ends = [row["floor"], row["ceiling"]]
        if not np.isnan(ends).any():
            panel.plot(ends, [y, y], color=BAND, linewidth=5, solid_capstyle="butt", zorder=1)
        for end, marker in zip(ends, "|d", strict=True):
            panel.plot(end, y, marker, color="#8a8a94", markersize=5, zorder=2)
        panel.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1, zorder=3)
        panel.plot(row["value"], y, "o", color=colour, markersize=4.5, zorder=4)
    _style(panel, measure, len(pairs), "".join(values["unit"].iloc[:1]))


def _style(panel: Axes, measure: Measure, count: int, unit: str) -> None:
    """Set the axes of a measure: similarities from -1 or 0 to 1, the others as they are."""
    panel.set_ylim(count - 0.5, -0.5)
    panel.set_yticks([])
    if measure.is_similarity:
        low = min(-0.02, panel.get_xlim()[0])
        panel.set_xlim(low, 1.03)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    else:
        panel.set_xlim(0, panel.get_xlim()[1])
    panel.set_title(f"{measure.title}{f', {unit}' if unit else ''}", pad=6, **TEXT, fontsize=8.5)
    panel.tick_params(labelsize=7, labelfontfamily=FONT, length=2, colors=DARK)
    panel.axvline(0, color=BAND, linewidth=0.8, zorder=0)
    panel.hlines(np.arange(count - 1) + 0.5, *panel.get_xlim(), color=BAND, linewidth=0.5, zorder=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color("#8a8a94")


def _fitting(names: Sequence[str]) -> float:
    """Choose a size at which the longest name fits beside the panels."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    return min(8.0, 72 * (EDGE - 0.2) / (0.62 * longest))


def _explain(figure: Figure, channels: Sequence[str], width: float, height: float) -> None:
    """Write what dots, bands and marks mean below the panels."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[i % len(COLOURS)], label=channel)
        for i, channel in enumerate(channels)
    ]
    handles.append(Line2D([], [], marker="|", linestyle="", color="#8a8a94", label="floor"))
    handles.append(Line2D([], [], marker="d", linestyle="", color="#8a8a94", label="ceiling"))
    handles.append(Patch(color=BAND, label="floor to ceiling"))
    legend = figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.1 / width, 0.02), ncol=len(handles),
        frameon=False, prop={"family": FONT, "size": 8},
    )  # fmt: skip
    for text in legend.get_texts():
        text.set(color=DARK, parse_math=False)
