"""The sheet of a figure: square panels in rows, their headings, a title and a colour bar."""

from collections.abc import Callable, Sequence
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from segxai.report.output_files import MARK
from segxai.report.panels import FONT, FRAME, HEAT, INK, PAPER, SIGNED, Colours
from segxai.store.atomic_file import replacing
from segxai.text import printable

Drawing = TypeVar("Drawing", bound=Callable[..., Any])

DPI = 150
LONGEST_BAR = 4.5  # inches
# The backend is left alone: setting it would close the user's own figures.
DEFAULTS = {
    name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")
}
LEFT, RIGHT, TOP, BOTTOM, GAP = 0.34, 0.86, 0.56, 0.1, 0.05  # inches


def by_default(draw: Drawing) -> Drawing:
    """Let a function draw by matplotlib's own defaults.

    The settings that it reads from a `matplotlibrc`, of which one may lie in the current folder,
    change pictures and can start LaTeX.
    """

    @wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with rc_context(DEFAULTS):
            return draw(*arguments, **options)

    return cast(Drawing, drawn)


@by_default
def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG, at 150 pixels per inch; equal figures give equal bytes.

    It is marked as ours, so that a later picture may replace it.
    """
    with replacing(Path(path), copy=False) as draft:
        figure.savefig(draft, dpi=DPI, format="png", metadata={"Software": MARK})


def colour_scale(maps: Sequence[Float[np.ndarray, "*shape"]], *, is_heat: bool) -> Colours:
    """Scale the colours to all but a few magnitudes, so that no lone voxel fades the others.

    One in 10 000 lies beyond the scale, and eight at most: maps of networks with instance
    normalisation are 0 nowhere, so the number of their voxels means nothing.
    """
    magnitudes = np.concatenate(
        [abs(values[(values != 0) & np.isfinite(values)]) for values in maps]
    )
    beyond = min(1e-4, 8 / max(magnitudes.size, 1))
    limit = float(np.quantile(magnitudes, 1 - beyond)) if magnitudes.size else 1.0
    return Colours(HEAT, 0.0, limit) if is_heat else Colours(SIGNED, -limit, limit)


def make_sheet(rows: int, columns: int, side: float) -> tuple[Figure, list[list[Axes]]]:
    """Make a dark figure with rows of square panels, `side` inches each."""
    width = LEFT + columns * (side + GAP) + RIGHT
    height = TOP + rows * (side + GAP) + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    size = (side / width, side / height)
    panels = []
    for row in range(rows):
        bottom = (BOTTOM + (rows - 1 - row) * (side + GAP)) / height
        lefts = [(LEFT + column * (side + GAP)) / width for column in range(columns)]
        panels.append([figure.add_axes((left, bottom, *size)) for left in lefts])
    return figure, panels


def finish(
    figure: Figure,
    panels: Sequence[Sequence[Axes]],
    *,
    title: str,
    heads: Sequence[str],
    names: Sequence[str],
    unit: str = "",
    scale: Colours | None = None,
) -> None:
    """Write the title and what rows and columns show, and add the bar of the scale, if any."""
    width, height = figure.get_size_inches()
    side = panels[0][0].get_position().width * width
    heads, names = [printable(one) for one in heads], [printable(one) for one in names]
    title, unit = printable(title), printable(unit)
    for panel, head in zip(panels[0], heads, strict=True):
        panel.set_title(head, pad=4, **_style(head, side, 9))
    for row, name in zip(panels, names, strict=True):
        row[0].set_ylabel(name, labelpad=5, **_style(name, side, 9))
    style = _style(title, 0.85 * (width - LEFT), 12) | {"weight": "bold", "va": "top"}
    figure.text(LEFT / width, 1 - 0.1 / height, title, **style)
    if scale is None:
        return
    top = panels[0][0].get_position().y1
    bottom = max(panels[-1][0].get_position().y0, top - LONGEST_BAR / height)
    place = (1 - (RIGHT - 0.08) / width, bottom, 0.12 / width, top - bottom)
    _fill_bar(
        figure.add_axes(place),
        scale,
        _style(unit, (top - bottom) * height, 8) | {"label": unit},
    )


def _fill_bar(axes: Axes, scale: Colours, label: dict[str, Any]) -> None:
    is_signed = scale.low < 0
    mappable = ScalarMappable(scale.norm, scale.colours)
    # Beyond the ends the colours stay the same: arrows show that.
    bar = Colorbar(axes, mappable, extend="both" if is_signed else "max")
    ticks = np.linspace(scale.low, scale.high, 5 if is_signed else 3)
    sign = "+" if is_signed else ""
    bar.set_ticks(list(ticks), labels=[f"{tick:{sign}.2g}" if tick else "0" for tick in ticks])
    bar.set_label(**label)
    axes.set_facecolor(FRAME)
    axes.tick_params(colors=INK, labelsize=7, labelfontfamily=FONT, length=2)
    bar.outline.set_edgecolor(FRAME)


def _style(text: str, inches: float, size: int) -> dict[str, Any]:
    """Choose the style of a user's text: small enough to fit, with a $ printed as it is."""
    fitting = min(size, 72 * inches / (0.6 * max(len(text), 1)))
    return {"color": INK, "fontsize": fitting, "family": FONT, "parse_math": False}
