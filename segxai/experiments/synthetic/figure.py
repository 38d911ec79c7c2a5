"""The figure of synthetic lesions: scores of each arm, and surfaces over contrast and size."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import COLOURS, STYLE, chart


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
