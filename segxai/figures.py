"""Draw: an instance's map over its image, and a whole case in one picture. Plain arrays in.

Volumes are drawn as radiologists look at them: the patient's right on the left, front and top up.
Their arrays must therefore run right, anterior, superior (RAS+); letters on every panel say so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from segxai.errors import SegxaiError

Mask = Bool[np.ndarray, "*grid"]
Item = tuple[str, Float[np.ndarray, "*shape"], Mask]

DPI = 150
PAPER, INK, OUTLINE, OTHERS, FRAME = ("#08080b", "#e8e8ec", "#ffe119", "#b9b9c6", "#44444c")
FONT = "DejaVu Sans"  # comes with matplotlib: a picture must not depend on the machine
ZOOM, MARGIN, RULER = 60.0, 10.0, 10.0  # mm: the zoomed box, its margin around the domain
LONGEST_BAR = 4.5  # inches
LEFT, RIGHT, TOP, BOTTOM, GAP = 0.34, 0.86, 0.56, 0.1, 0.05  # inches

# Opacity grows with the magnitude, so that the anatomy shows where a map says little.
SIGNED = LinearSegmentedColormap.from_list(
    "segxai_signed",
    [
        (0.00, (0.25, 0.62, 1.00, 0.95)),
        (0.25, (0.10, 0.35, 1.00, 0.75)),
        (0.45, (0.10, 0.30, 1.00, 0.30)),
        (0.50, (0.50, 0.50, 0.50, 0.00)),
        (0.55, (1.00, 0.10, 0.08, 0.30)),
        (0.75, (1.00, 0.12, 0.08, 0.75)),
        (1.00, (1.00, 0.45, 0.30, 0.95)),
    ],
)
HEAT = LinearSegmentedColormap.from_list(
    "segxai_heat",
    [
        (0.0, (0.40, 0.00, 0.35, 0.00)),
        (0.1, (0.50, 0.05, 0.40, 0.30)),
        (0.5, (0.95, 0.35, 0.10, 0.75)),
        (1.0, (1.00, 0.95, 0.45, 0.95)),
    ],
)


@dataclass(frozen=True)
class _Colours:
    """A colour map and the values at its ends."""

    colours: Colormap
    low: float
    high: float

    @property
    def norm(self) -> Normalize:
        """Values to the range 0 to 1."""
        return Normalize(self.low, self.high)


GREY = _Colours(LinearSegmentedColormap.from_list("segxai_grey", ["#000000", "#f4f4f4"]), 0.0, 1.0)
# Under a map white is not white, so that pale overlays show on it.
DIM = _Colours(LinearSegmentedColormap.from_list("segxai_dim", ["#000000", "#c8c8c8"]), 0.0, 1.0)


@dataclass(frozen=True)
class _Plane:
    """A way to look at an array: the axis that is cut, those that run across and up, the ends."""

    name: str
    cut: int | None
    across: int
    up: int
    ends: str = ""  # letters at the left, the right, the top and the bottom


AXIAL = _Plane("axial", 2, 0, 1, "RLAP")
CORONAL = _Plane("coronal", 1, 0, 2, "RLSI")
SAGITTAL = _Plane("sagittal", 0, 1, 2, "APSI")
PICTURE = _Plane("", None, 1, 0)


@dataclass(frozen=True)
class _View:
    """What a column shows: a plane, around the domain or whole, with the map or without."""

    head: str
    plane: _Plane
    is_zoomed: bool
    has_map: bool


WHOLE_SLICE = _View("axial, whole", AXIAL, is_zoomed=False, has_map=False)
AROUND = tuple(
    _View(plane.name, plane, is_zoomed=True, has_map=True) for plane in (AXIAL, CORONAL, SAGITTAL)
)
WHOLE_PICTURE = _View("image", PICTURE, is_zoomed=False, has_map=False)
MAPPED_PICTURE = _View("map", PICTURE, is_zoomed=False, has_map=True)
AROUND_PICTURE = _View("map, enlarged", PICTURE, is_zoomed=True, has_map=True)
VOLUME_VIEWS = (WHOLE_SLICE, *AROUND)
PICTURE_VIEWS = (WHOLE_PICTURE, MAPPED_PICTURE, AROUND_PICTURE)


@dataclass(frozen=True)
class _Scene:
    """What the panels of one instance share; boxes are in mm from the first voxel."""

    grey: Float[np.ndarray, "channel *grid"]  # 0 is black, 1 is white
    values: Float[np.ndarray, "*shape"]
    domain: Bool[np.ndarray, "*grid"]
    center: tuple[int, ...]
    spacing: Float[np.ndarray, " axis"]
    scale: _Colours

    def values_of(self, channel: int) -> Float[np.ndarray, "*grid"]:
        """The map that belongs to a channel; a heat map belongs to all."""
        is_heat = self.values.ndim == self.domain.ndim
        return self.values if is_heat else np.asarray(self.values[channel])

    def section(
        self, array: Shaped[np.ndarray, "*grid"], plane: _Plane
    ) -> Shaped[np.ndarray, "up across"]:
        """The array in a plane through the centre."""
        if plane.cut is None:
            return array
        return np.asarray(np.take(array, self.center[plane.cut], axis=plane.cut).T)

    def box(self, view: _View) -> Float[np.ndarray, "end axis"]:
        """The cube that a view shows: first and last corner in mm from the first voxel."""
        shown = self.domain if view.is_zoomed else np.asarray(self.grey.any(axis=0))
        ends = _ends(shown) * self.spacing
        center = np.array(self.center) * self.spacing if view.is_zoomed else ends.mean(axis=0)
        reach = float(abs(ends - center).max())
        half = max(ZOOM / 2, reach + MARGIN) if view.is_zoomed else 1.08 * reach
        return np.stack([center - half, center + half])


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
) -> Figure:
    """One instance: a row for each channel, a column for each plane, the map over the image.

    Positive is red and negative blue, on one scale that is symmetric and shared by all channels; a
    heat map runs from purple to yellow. The domain is outlined. The first column gives the whole
    slice (in 2D, picture) without the map.

    Parameters
    ----------
    image : ndarray of shape (channel, *grid)
        2D (y, x), or 3D running right, anterior, superior. Background is what is 0 in all channels.
    values : ndarray of shape (channel, *grid), or (*grid) for a heat map
        The map.
    domain : ndarray of shape (*grid)
        The instance's voxels.
    channels : sequence of str
        Names of the channels.
    title, unit : str
        Above the picture, and beside its colour bar.
    spacing : sequence of float
        Distance between neighbouring voxels along each axis, in mm (1 for pixels).
    center : sequence of int, optional
        The voxel that the planes go through; if not given, the one of the domain that is nearest to
        its centroid.
    """
    scale = _colour_scale([values], is_heat=values.ndim == domain.ndim)
    place = _center(domain) if center is None else tuple(center)
    scene = _Scene(_grey(image), values, domain, place, np.array(spacing), scale)
    views = VOLUME_VIEWS if domain.ndim == 3 else PICTURE_VIEWS
    figure, panels = _sheet(len(channels), len(views), side=2.2)
    for channel, row in enumerate(panels):
        for panel, view in zip(row, views, strict=True):
            _draw_panel(panel, scene, view, channel)
    heads = [view.head for view in views]
    _finish(figure, panels, title=title, heads=heads, names=channels, unit=unit, scale=scale)
    return figure


def draw_overview(
    image: Float[np.ndarray, "channel *grid"],
    items: Iterable[Item],
    *,
    channels: Sequence[str],
    spacing: Sequence[float],
    title: str,
    unit: str,
    rows: int = 4,
) -> Figure:
    """The largest instances of a case, a row each, all on one scale; 1200 pixels wide when saved.

    The first column gives the whole slice with every instance outlined, the others the map of each
    channel around the row's own.

    Parameters
    ----------
    image, channels, spacing, title, unit
        As for `draw_instance`.
    items : iterable of (str, ndarray, ndarray)
        Label, map and domain of each instance. From an iterator no more than `rows` are held.
    rows : int
        How many of them to draw.

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
    grey, side = _grey(image), (8 - LEFT - RIGHT) / (len(channels) + 1) - GAP
    figure, panels = _sheet(len(drawn), len(channels) + 1, side)
    for row, (_, values, domain) in zip(panels, drawn, strict=True):
        scene = _Scene(grey, values, domain, _center(domain), np.array(spacing), scale)
        _draw_panel(row[0], scene, whole, 0, others=every)
        for channel, panel in enumerate(row[1:]):
            _draw_panel(panel, scene, around, channel)
    heads, names = [f"{channels[0]}, whole", *channels], [item[0] for item in drawn]
    _finish(figure, panels, title=title, heads=heads, names=names, unit=unit, scale=scale)
    return figure


def _largest(items: Iterable[Item], rows: int) -> tuple[list[Item], Mask | None]:
    """The items with the largest domains, and where any item's domain is."""
    kept: list[Item] = []
    every: Mask | None = None
    for item in items:
        every = item[2] if every is None else every | item[2]
        kept = sorted([*kept, item], key=lambda one: -int(one[2].sum()))[:rows]
    return kept, every


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG, 150 pixels an inch; equal figures give equal bytes."""
    figure.savefig(Path(path), dpi=DPI, format="png", metadata={"Software": None})


def _colour_scale(maps: Sequence[Float[np.ndarray, "*shape"]], *, is_heat: bool) -> _Colours:
    """Colours up to all but one in 10 000 of the magnitudes, lest a lone voxel fade all others."""
    magnitudes = np.concatenate(
        [abs(values[(values != 0) & np.isfinite(values)]) for values in maps]
    )
    limit = float(np.quantile(magnitudes, 0.9999)) if magnitudes.size else 1.0
    return _Colours(HEAT, 0.0, limit) if is_heat else _Colours(SIGNED, -limit, limit)


def _grey(image: Float[np.ndarray, "channel *grid"]) -> Float[np.ndarray, "channel *grid"]:
    """Each channel from black to white between its extremes in the foreground."""
    foreground = (image != 0).any(axis=0)
    grey = np.zeros(image.shape, dtype=np.float32)
    for channel, shades in zip(image, grey, strict=True):
        low, high = np.quantile(channel[foreground], [0.005, 0.995]) if foreground.any() else (0, 1)
        shades[:] = np.clip((channel - low) / max(high - low, 1e-12), 0, 1) * foreground
    return grey


def _center(domain: Bool[np.ndarray, "*grid"]) -> tuple[int, ...]:
    """The domain's voxel nearest to its centroid; the middle of the grid if it has none."""
    voxels = np.argwhere(domain)
    if not len(voxels):
        return tuple(size // 2 for size in domain.shape)
    nearest = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return tuple(int(index) for index in voxels[nearest])


def _ends(mask: Bool[np.ndarray, "*grid"]) -> Float[np.ndarray, "end axis"]:
    """First and last voxel of a mask along each axis; of the grid if it has none."""
    if not mask.any():
        return np.array([np.zeros(mask.ndim), np.array(mask.shape) - 1.0])
    voxels = np.argwhere(mask)
    return np.array([voxels.min(axis=0), voxels.max(axis=0)], dtype=float)


def _sheet(rows: int, columns: int, side: float) -> tuple[Figure, list[list[Axes]]]:
    """A dark figure with rows of square panels, `side` inches each."""
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


def _draw_panel(
    panel: Axes, scene: _Scene, view: _View, channel: int, others: Mask | None = None
) -> None:
    _draw_layer(panel, scene, view.plane, scene.grey[channel], DIM if view.has_map else GREY)
    if view.has_map:
        _draw_layer(panel, scene, view.plane, scene.values_of(channel), scene.scale)
    if others is not None:
        _draw_outline(panel, scene, view, others, OTHERS)
    _draw_outline(panel, scene, view, scene.domain, OUTLINE)
    _frame(panel, scene, view)
    if not view.is_zoomed:
        _mark_zoom(panel, scene, view)
    elif view.plane.cut is not None:
        _draw_ruler(panel, scene, view)


def _draw_layer(
    panel: Axes,
    scene: _Scene,
    plane: _Plane,
    array: Float[np.ndarray, "*grid"],
    scale: _Colours,
) -> None:
    axes = [plane.across, plane.up]
    step, size = scene.spacing[axes], np.array(array.shape)[axes]
    (left, low), (right, high) = -0.5 * step, (size - 0.5) * step
    panel.imshow(
        scene.section(array, plane),
        cmap=scale.colours,
        norm=scale.norm,
        extent=(left, right, low, high),
        origin="lower",
        # Anatomy may be smooth; a map shows its voxels as they are.
        interpolation="bicubic" if scale in (GREY, DIM) else "nearest",
    )


def _draw_outline(panel: Axes, scene: _Scene, view: _View, mask: Mask, colour: str) -> None:
    section = np.pad(scene.section(mask, view.plane), 1).astype(float)
    if not section.any():  # contour would warn
        return
    up, across = (np.arange(size) - 1.0 for size in section.shape)
    across, up = across * scene.spacing[view.plane.across], up * scene.spacing[view.plane.up]
    width = 1.1 if view.is_zoomed else 0.7
    lines = panel.contour(across, up, section, levels=[0.5], colors=[colour], linewidths=[width])
    lines.set_path_effects([withStroke(linewidth=2 * width, foreground="black")])


def _frame(panel: Axes, scene: _Scene, view: _View) -> None:
    """Cut the panel to its box, turn it the right way round, and name its sides."""
    low, high = scene.box(view)
    plane, is_volume = view.plane, view.plane.cut is not None
    across = (low[plane.across], high[plane.across])
    up = (low[plane.up], high[plane.up])
    panel.set_xlim(across[::-1] if is_volume else across)  # right and front are on the left
    panel.set_ylim(up if is_volume else up[::-1])  # pictures start at the top
    panel.set(xticks=[], yticks=[], facecolor="black")
    panel.spines[:].set_color(FRAME)
    spots = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035))
    for letter, (x, y) in zip(plane.ends, spots, strict=False):
        _write(panel, x, y, letter, size=7)


def _mark_zoom(panel: Axes, scene: _Scene, view: _View) -> None:
    low, high = scene.box(replace(view, is_zoomed=True))
    axes = [view.plane.across, view.plane.up]
    (x, y), (width, height) = low[axes], (high - low)[axes]
    panel.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=INK, linewidth=0.7))


def _draw_ruler(panel: Axes, scene: _Scene, view: _View) -> None:
    low, high = scene.box(view)
    length = RULER / float(high[0] - low[0])
    ends, height = [0.05, 0.05 + length], [0.05, 0.05]
    panel.plot(ends, height, color=INK, linewidth=1.5, transform=panel.transAxes)
    _write(panel, 0.05 + length / 2, 0.085, f"{RULER:g} mm", size=6)


def _write(panel: Axes, x: float, y: float, text: str, size: int) -> None:
    edge = [withStroke(linewidth=1.5, foreground="black")]
    place: dict[str, Any] = {"transform": panel.transAxes, "ha": "center", "va": "center"}
    panel.text(x, y, text, color=INK, fontsize=size, family=FONT, path_effects=edge, **place)


def _style(text: str, inches: float, size: int) -> dict[str, Any]:
    """How to write a text of the user's: as small as it takes to fit, a $ being a $."""
    fitting = min(size, 72 * inches / (0.6 * max(len(text), 1)))
    return {"color": INK, "fontsize": fitting, "family": FONT, "parse_math": False}


def _finish(
    figure: Figure,
    panels: Sequence[Sequence[Axes]],
    *,
    title: str,
    heads: Sequence[str],
    names: Sequence[str],
    unit: str,
    scale: _Colours,
) -> None:
    """Write the title and what rows and columns show, and add the colour bar."""
    width, height = figure.get_size_inches()
    side = panels[0][0].get_position().width * width
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


def _fill_bar(axes: Axes, scale: _Colours, label: dict[str, Any]) -> None:
    is_signed = scale.low < 0
    mappable = ScalarMappable(scale.norm, scale.colours)
    # Beyond the ends the colours stay as they are: arrows say so.
    bar = Colorbar(axes, mappable, extend="both" if is_signed else "max")
    ticks = np.linspace(scale.low, scale.high, 5 if is_signed else 3)
    sign = "+" if is_signed else ""
    bar.set_ticks(list(ticks), labels=[f"{tick:{sign}.2g}" if tick else "0" for tick in ticks])
    bar.set_label(**label)
    axes.set_facecolor(FRAME)
    axes.tick_params(colors=INK, labelsize=7, labelfontfamily=FONT, length=2)
    bar.outline.set_edgecolor(FRAME)
