"""Charts of experiments: their sizes, colours and files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from segxai.report.output_files import MARK
from segxai.report.sheet import DEFAULTS, DPI

# Told apart by colour-blind readers, too (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
OUTCOME_COLOURS = {
    "TN": "#999999",
    "FN": "#56b4e9",
    "FP": "#e69f00",
    "TP": "#d55e00",
    "": "#0072b2",
}
STYLE: Any = {
    **cast(dict[str, Any], DEFAULTS),
    "axes.axisbelow": True,  # no grid across what is drawn
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "font.family": "DejaVu Sans",
    "grid.color": "#e4e4e8",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": MARK,  # or equal figures would differ in their identifiers
    "text.parse_math": False,  # names are a user's
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
FEWEST_TICKS, MOST_TICKS = 3, 7  # with labels, of a logarithmic axis


def chart(
    rows: int, columns: int, *, width: float = 3.6, height: float = 2.9, share_x: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """Make a white figure with panels in rows and columns; width and height of one are in inches.

    Draw on it within `rc_context(STYLE)`.
    """
    engine = ConstrainedLayoutEngine(w_pad=0.1)  # labels at the ends of two axes keep apart
    figure = Figure(figsize=(columns * width, rows * height), dpi=DPI, layout=engine)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex="col" if share_x else False)
    return figure, panels.tolist()


def save_chart(figure: Figure, path: Path, ending: str) -> None:
    """Write a chart as PNG or SVG; equal charts give equal bytes."""
    metadata: Any = {"Software": MARK} if ending == "png" else {"Date": None, "Creator": MARK}
    with rc_context(STYLE):
        figure.savefig(path, dpi=DPI, format=ending, metadata=metadata)


def label_logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers: mathematical ones are not parsed, see STYLE."""
    axis.set_major_locator(FixedLocator(logarithmic_ticks(*axis.get_view_interval())))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Choose three to seven round numbers from low to high, as round as there are.

    Powers of ten, or else 1, 2 and 5 times these, or else numbers of equal steps.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5)):
        found = [
            value for power in powers for digit in digits
            if low <= (value := float(f"{digit}e{power}")) <= high
        ]  # fmt: skip
        if len(found) >= FEWEST_TICKS:
            return found[:: math.ceil(len(found) / MOST_TICKS)]
    evenly = MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=FEWEST_TICKS).tick_values(low, high)
    return [float(value) for value in evenly if low <= value <= high]


def signed_logarithmic(panel: Axes, largest: float) -> None:
    """Scale the upright axis by the logarithm of the magnitude, linearly around 0.

    Two decades up to the largest magnitude are logarithmic.
    """
    top = math.floor(math.log10(largest)) if largest > 0 else 0
    panel.set_yscale("symlog", linthresh=10.0 ** (top - 1))
    decades = [10.0**power for power in (top - 1, top)]
    ticks = [*(-one for one in reversed(decades)), 0.0, *decades]
    panel.set_yticks(ticks, [f"{one:g}" for one in ticks])
    panel.minorticks_off()


def legend_below(figure: Figure, panel: Axes, columns: int = 4) -> None:
    """Put the legend of a panel below the whole figure."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """Give each name a colour; they repeat after eight."""
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
