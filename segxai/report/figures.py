"""Figures of plain arrays: an instance's map over its image, and a whole case in one picture.

Volumes are drawn as radiologists look at them: the patient's right on the left, front and top up.
Their arrays must therefore run right, anterior, superior (RAS+); letters on every panel say so.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from segxai.errors import SegxaiError
from segxai.report.output_files import MARK
from segxai.report.panels import (
    AROUND,
    AROUND_PICTURE,
    FONT,
    FRAME,
    HEAT,
    INK,
    PAPER,
    PICTURE_VIEWS,
    SIGNED,
    VOLUME_VIEWS,
    WHOLE_PICTURE,
    WHOLE_SLICE,
    Colours,
    Mask,
    Scene,
    draw_panel,
    grey_image,
    middle_voxel,
)
from segxai.store.atomic_file import replacing
from segxai.text import printable

Item = tuple[str, Float[np.ndarray, "*shape"], Mask]

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
def draw_instance(
    image: Float[np.ndarray, "channel *grid"],
    values: Float[np.ndarray, "*shape"],
    domain: Bool[np.ndarray, "*grid"],
    *,
    channels: Sequence[str],
    title: str,
    spacing: Sequence[float],
    unit: str,
    center: Sequence[int] | None = None,
    picture: UInt8[np.ndarray, "y x 3"] | None = None,
) -> Figure:
    """Draw one instance: a row for each channel, a column for each plane, the map over the image.

    Positive is red and negative blue, on one scale that is symmetric and shared by all channels; a
    heat map runs from purple to yellow. The domain is outlined. The first column shows the whole
    slice (in 2D, the whole picture) without the map.

    Parameters
    ----------
    image : ndarray of shape (channel, *grid)
        2D (y, x), or 3D running right, anterior, superior. Voxels that are 0 in all channels are
        background.
    values : ndarray of shape (channel, *grid), or (*grid) for a heat map
        The map.
    domain : ndarray of shape (*grid)
        The instance's voxels.
    channels : sequence of str
        Names of the channels.
    title, unit : str
        Texts above the picture and beside its colour bar.
    spacing : sequence of float
        Distance between neighbouring voxels along each axis, in mm (1 for pixels).
    center : sequence of int, optional
        The voxel that the planes go through; by default the domain's voxel nearest to its centroid.
    picture : ndarray of shape (y, x, 3), optional
        Colours of a 2D image, shown where there is no map.
    """
    scale = _colour_scale([values], is_heat=values.ndim == domain.ndim)
    place = middle_voxel(domain) if center is None else tuple(center)
    scene = Scene(grey_image(image), values, domain, place, np.array(spacing), scale, picture)
    views = VOLUME_VIEWS if domain.ndim == 3 else PICTURE_VIEWS
    figure, panels = _sheet(len(channels), len(views), side=2.2)
    for channel, row in enumerate(panels):
        for panel, view in zip(row, views, strict=True):
            draw_panel(panel, scene, view, channel)
    heads = [view.head for view in views]
    _finish(figure, panels, title=title, heads=heads, names=channels, unit=unit, scale=scale)
    return figure


@by_default
def draw_overview(
    image: Float[np.ndarray, "channel *grid"],
    items: Iterable[Item],
    *,
    channels: Sequence[str],
    spacing: Sequence[float],
    title: str,
    unit: str,
    rows: int = 4,
    picture: UInt8[np.ndarray, "y x 3"] | None = None,
) -> Figure:
    """Draw the largest instances of a case, a row each, on one scale; saved 1200 pixels wide.

    The first column shows the whole slice with every instance outlined, the others show the map of
    each channel around the instance of the row.

    Parameters
    ----------
    image, channels, spacing, title, unit, picture
        As for `draw_instance`.
    items : iterable of (str, ndarray, ndarray)
        Label, map and domain of each instance. An iterator keeps memory low: at most `rows` maps
        are held.
    rows : int
        How many instances to draw.

    Raises
    ------
    SegxaiError
        If there are no items.
    """
    drawn, every = _largest(items, rows)
    if every is None:
        raise SegxaiError(f"{title}: no instance was explained, so there is nothing to draw")
    scale = _colour_scale([item[1] for item in drawn], is_heat=drawn[0][1].ndim == image.ndim - 1)
    whole, around = (WHOLE_SLICE, AROUND[0]) if image.ndim == 4 else (WHOLE_PICTURE, AROUND_PICTURE)
    grey, side = grey_image(image), (8 - LEFT - RIGHT) / (len(channels) + 1) - GAP
    figure, panels = _sheet(len(drawn), len(channels) + 1, side)
    for row, (_, values, domain) in zip(panels, drawn, strict=True):
        place = middle_voxel(domain)
        scene = Scene(grey, values, domain, place, np.array(spacing), scale, picture)
        draw_panel(row[0], scene, whole, 0, others=every)
        for channel, panel in enumerate(row[1:]):
            draw_panel(panel, scene, around, channel)
    first = f"{channels[0]}, whole" if picture is None else "picture"
    heads, names = [first, *channels], [item[0] for item in drawn]
    _finish(figure, panels, title=title, heads=heads, names=names, unit=unit, scale=scale)
    return figure


@by_default
def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG, at 150 pixels per inch; equal figures give equal bytes.

    It is marked as ours, so that a later picture may replace it.
    """
    with replacing(Path(path), copy=False) as draft:
        figure.savefig(draft, dpi=DPI, format="png", metadata={"Software": MARK})


def _largest(items: Iterable[Item], rows: int) -> tuple[list[Item], Mask | None]:
    """Find the items with the largest domains, and the union of all domains."""
    kept: list[Item] = []
    every: Mask | None = None
    for item in items:
        every = item[2] if every is None else every | item[2]
        kept = sorted([*kept, item], key=lambda one: -int(one[2].sum()))[:rows]
    return kept, every


def _colour_scale(maps: Sequence[Float[np.ndarray, "*shape"]], *, is_heat: bool) -> Colours:
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


def _sheet(rows: int, columns: int, side: float) -> tuple[Figure, list[list[Axes]]]:
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


def _finish(
    figure: Figure,
    panels: Sequence[Sequence[Axes]],
    *,
    title: str,
    heads: Sequence[str],
    names: Sequence[str],
    unit: str,
    scale: Colours,
) -> None:
    """Write the title and what rows and columns show, and add the colour bar."""
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
    top = panels[0][0].get_position().y1
    bottom = max(panels[-1][0].get_position().y0, top - LONGEST_BAR / height)
    place = (1 - (RIGHT - 0.08) / width, bottom, 0.12 / width, top - bottom)
    _fill_bar(
        figure.add_axes(place), scale, _style(unit, (top - bottom) * height, 8) | {"label": unit}
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
