"""Draw how reliable the probabilities of a network are, for each load."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segxai_ms_lesion.recipe.calibration import (
    EDGES,
    Reliability,
    expected_calibration_error,
)

COLOURS = ("#0072b2", "#d55e00", "#56b4e9", "#e69f00", "#595959")  # told apart by all eyes
MARKERS = "osv^D"
DPI = 110


def draw_reliability(groups: Mapping[str, Reliability], title: str, path: Path) -> None:
    """Write a picture: share of lesion over probability, and below it how many voxels there are.

    Voxels of the first bin are left out of it.
    """
    figure = Figure(figsize=(5.2, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lower.set(yscale="symlog", xlabel="probability of lesion", ylabel="voxels")
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for (name, binned), colour, marker in zip(groups.items(), COLOURS, MARKERS, strict=False):
        _draw_group(upper, lower, name, binned.in_doubt, colour, marker)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of voxels that are lesion")
    upper.set_title(title, loc="left", fontsize=9)
    heading = "expected calibration error"
    upper.legend(loc="upper left", frameon=False, fontsize=8, title=heading, title_fontsize=8)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)


def _draw_group(
    upper: Axes, lower: Axes, name: str, binned: Reliability, colour: str, marker: str
) -> None:
    """Draw the points of one group and its counts."""
    probability, share = binned.points
    error = expected_calibration_error(binned)
    label = f"{name}: {error:.3f}"
    upper.plot(probability, share, color=colour, marker=marker, markersize=4.5, label=label)
    lower.stairs(binned.voxels, EDGES[1:], color=colour, linewidth=1.4)
