"""Draw a learning curve: `python -m segxai_ms_lesion.recipe.curve LOG ... --out FILE`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segxai import SegxaiError
from segxai_ms_lesion.recipe.diagram import COLOURS, DPI, MARKERS


def main() -> None:
    """Read the logs of runs that continue each other, and draw them as one."""
    parser = argparse.ArgumentParser(description="Draw quality and Dice over hours of training.")
    parser.add_argument("logs", nargs="+", type=Path, help="what `recipe.train` printed, in order")
    parser.add_argument("--title", default="")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    asked = parser.parse_args()
    draw_curve(read_runs(asked.logs), asked.title, asked.out)


def read_runs(logs: Sequence[Path]) -> list[list[dict[str, Any]]]:
    """Read the validations of each run, with the hours since the first run began.

    A run begins where the one before it was validated for the last time. Lines that are no JSON
    are warnings of libraries, and left out.
    """
    runs, before = [], 0.0
    for log in logs:
        lines = log.read_text(encoding="utf-8").splitlines()
        run = [json.loads(line) for line in lines if line.startswith("{")]
        if not run:
            raise SegxaiError(f"{log} has no line of JSON: it is no log of a run with validations")
        runs.append([{**one, "hours": (before + one["minutes"]) / 60} for one in run])
        before += run[-1]["minutes"]
    return runs


def draw_curve(runs: Sequence[Sequence[dict[str, Any]]], title: str, path: Path) -> None:
    """Write a picture: quality and the Dice of each group over hours; a line where a run ends."""
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [one for run in runs for one in run]
    hours = [one["hours"] for one in points]
    axes.plot(
        hours, [one["quality"] for one in points], color="black", linewidth=2, label="quality"
    )
    for group, colour, marker in zip(points[0]["groups"], COLOURS, MARKERS, strict=False):
        dice = [one["groups"][group][0] for one in points]
        axes.plot(hours, dice, color=colour, marker=marker, markersize=4, label=f"Dice, {group}")
    for run in runs[:-1]:
        axes.axvline(run[-1]["hours"], color="0.6", linewidth=1, linestyle=":")
    axes.set(xlabel="hours", xlim=(0, None), ylim=(0, 1))
    axes.set_title(title, loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


if __name__ == "__main__":
    main()
