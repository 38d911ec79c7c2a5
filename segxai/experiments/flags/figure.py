"""Flags: ROC curves and AUCs, or the features alone where nothing can be told."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.experiments.drawing import COLOURS, OUTCOME_COLOURS, STYLE, chart
from segxai.experiments.flags.model import BASELINES, SETS

MOST_SHOWN = 12  # features


def draw(parts: Sequence[tuple[str, pd.DataFrame]], rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a row for each model: features of TP and FP, ROC curves, and AUCs."""
    with rc_context(STYLE):
        figure, panels = chart(len(parts), 3, width=4.6, height=3.8)
        for (name, table), row in zip(parts, panels, strict=True):
            _draw_features(row[0], table)
            row[0].set_title(f"{name}: features")
            told = all(f"score_{one}" in table for one in SETS)
            for panel, title, drawn in (
                (row[1], "TP against FP, out of fold", _draw_curves),
                (row[2], "AUC", _draw_aucs),
            ):
                panel.set_title(title)
                if told:
                    own = [one for one in rows if _is_of(one, table)]
                    drawn(panel, table, own)
                else:
                    panel.text(0.5, 0.5, "cannot tell", ha="center", transform=panel.transAxes)
                    panel.set(xticks=[], yticks=[])
        figure.suptitle("Can maps tell false alarms from lesions?", fontsize=12)
    return figure


def _is_of(row: Mapping[str, Any], table: pd.DataFrame) -> bool:
    names = ("model", "method", "aggregator")
    return all(row[name] == table[name].iloc[0] for name in names)


def _draw_features(panel: Axes, table: pd.DataFrame) -> None:
    """Draw features in standard deviations, TP above and FP below each line."""
    saliency = [str(one) for one in table if str(one).startswith("saliency ")]
    known = [name for name in (*BASELINES, *saliency) if table[name].notna().all()]
    names = known[:MOST_SHOWN]
    for place, name in enumerate(names):
        values = table[name].to_numpy(float)
        standard = (values - values.mean()) / max(float(values.std()), 1e-12)
        for outcome, shift in (("TP", -0.16), ("FP", 0.16)):
            own = standard[(table["outcome"] == outcome).to_numpy(bool)]
            height = np.full(len(own), place + shift)
            colour = OUTCOME_COLOURS[outcome]
            panel.scatter(own, height, s=9, color=colour, alpha=0.6, linewidths=0)
            if len(own):
                panel.plot(np.median(own), place + shift, "|", ms=10, mew=2, color="black")
    for outcome in ("TP", "FP"):
        panel.scatter([], [], s=14, color=OUTCOME_COLOURS[outcome], label=outcome)
    panel.legend(loc="upper right", ncols=2)
    labels = [name.replace("saliency ", "").replace("_", " ") for name in names]
    panel.set_yticks(range(len(names)), labels)
    left_out = f"; {len(known) - MOST_SHOWN} more in the table" if known[MOST_SHOWN:] else ""
    panel.set_xlabel(f"standard deviations; bars: medians{left_out}")
    panel.set_ylim(len(names) - 0.5, -1.3)  # room for the legend


def _draw_curves(panel: Axes, table: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> None:
    is_tp = (table["outcome"] == "TP").to_numpy(bool)
    aucs = {row["features"]: row["value"] for row in rows if "jackknife" in row["statistic"]}
    for colour, name in zip(COLOURS, SETS, strict=False):
        order = np.argsort(-table[f"score_{name}"].to_numpy(float), kind="stable")
        kept = np.append(0, np.cumsum(is_tp[order])) / is_tp.sum()
        alarms = np.append(0, np.cumsum(~is_tp[order])) / (~is_tp).sum()
        panel.plot(alarms, kept, color=colour, lw=1.5, label=f"{name}, AUC {aucs[name]:.2f}")
    panel.plot([0, 1], [0, 1], color="#999999", lw=0.8, ls=":")
    panel.axhline(0.95, color="#999999", lw=0.8)
    panel.set(xlabel="share of FP left", ylabel="share of TP kept", xlim=(0, 1), ylim=(0, 1.02))
    panel.legend(loc="lower right")


def _draw_aucs(panel: Axes, table: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> None:
    shown = [row for row in rows if "AUC, jackknife over patients (logit" in row["statistic"]]
    for place, row in enumerate(shown):
        colour = COLOURS[SETS.index(row["features"])] if row["features"] in SETS else "#777777"
        if row["headline"] and not np.isnan(row["low"]):
            panel.plot([row["low"], row["high"]], [place] * 2, color=colour, lw=1.6)
        panel.plot(row["value"], place, "o", color=colour)
    panel.set_yticks(range(len(shown)), [row["features"].replace("_", " ") for row in shown])
    panel.axvline(0.5, color="#888888", lw=0.8)
    panel.set(xlim=(0, 1.02), xlabel="AUC; bars: 95 % over patients, from ten patients on")
    panel.invert_yaxis()
