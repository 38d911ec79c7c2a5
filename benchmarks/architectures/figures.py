"""Figures of the page: matrices of methods, and methods across networks."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73")  # Okabe and Ito 2008
GREY = "#8a8a94"


def draw_matrices(matrices: Mapping[str, tuple[Sequence[str], np.ndarray, np.ndarray]]) -> Figure:
    """Draw cosines of methods with each other, a panel for each network.

    A dot marks a pair that is not above its floor; grey is not known.

    Parameters
    ----------
    matrices : mapping
        The methods, the values and the floors of each network.
    """
    rows = -(-len(matrices) // 2)
    figure = Figure(figsize=(11, 4.9 * rows), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for panel in panels[len(matrices) :]:
        panel.set_axis_off()
    for panel, (title, (methods, values, floors)) in zip(panels, matrices.items(), strict=False):
        panel.set_facecolor("#dcdce2")
        shown = panel.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        for i, j in np.argwhere(values <= floors):
            panel.plot(j, i, ".", color="black", markersize=3)
        names = [name.replace("_", " ") for name in methods]
        panel.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        panel.set_yticks(range(len(names)), names, fontsize=7)
        panel.set_title(title, fontsize=9, weight="bold", loc="left")
    figure.colorbar(shown, ax=list(panels), shrink=0.4, label="cosine")
    return figure


def draw_networks(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how alike two networks' maps are, for each method, with floor and ceiling.

    Parameters
    ----------
    tables : mapping
        The pairs of networks as `agreement.means` gives them, by the title of the panel.
    """
    first = next(iter(tables.values()))
    methods = list(dict.fromkeys(first["first_method"]))
    pairs = list(dict.fromkeys(zip(first["first_network"], first["second_network"], strict=True)))
    size = (4.8 * len(tables) + 1.5, 0.36 * len(methods) + 1.3)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for panel, (title, table) in zip(panels, tables.items(), strict=True):
        for row in table.to_dict("records"):
            number = pairs.index((row["first_network"], row["second_network"]))
            y = methods.index(row["first_method"]) + 0.22 * (number - (len(pairs) - 1) / 2)
            panel.plot([row["floor"], row["ceiling"]], [y, y], color="#dcdce2", linewidth=4)
            panel.plot(row["floor"], y, "|", color=GREY, markersize=5)
            panel.plot(row["ceiling"], y, "d", color=GREY, markersize=3)
            panel.plot(row["value"], y, "o", color=COLOURS[number], markersize=4)
        panel.set_title(title, fontsize=9, weight="bold", loc="left")
        panel.set_xlim(min(-0.05, panel.get_xlim()[0]), 1.03)
        panel.axvline(0, color="#dcdce2", linewidth=0.8, zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(methods)), [name.replace("_", " ") for name in methods])
    panels[0].invert_yaxis()
    for number, pair in enumerate(pairs):
        panels[-1].plot([], [], "o", color=COLOURS[number], label=" and ".join(pair))
    panels[-1].plot([], [], "|", color=GREY, label="floor: other instances")
    panels[-1].plot([], [], "d", color=GREY, markersize=3, label="ceiling: another seed")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure
