"""One panel of a figure: a slice, its map, the outline of the domain, letters and a ruler."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

Mask = Bool[np.ndarray, "*grid"]

PAPER, INK, OUTLINE, OTHERS, FRAME = ("#08080b", "#e8e8ec", "#ffe119", "#b9b9c6", "#44444c")
FONT = "DejaVu Sans"  # comes with matplotlib: a picture must not depend on the machine
ZOOM, MARGIN, RULER = 40.0, 14.0, 10.0  # mm: zoomed box, its margin around the domain, ruler

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
class Colours:
    """A colour map and the values at its ends."""

    colours: Colormap
    low: float
    high: float

    @property
    def norm(self) -> Normalize:
        """The mapping of values to the range 0 to 1."""
        return Normalize(self.low, self.high)


GREY = Colours(LinearSegmentedColormap.from_list("segxai_grey", ["#000000", "#f4f4f4"]), 0.0, 1.0)
# Under a map, white is dimmed, so that pale overlays show on it.
DIM = Colours(LinearSegmentedColormap.from_list("segxai_dim", ["#000000", "#c8c8c8"]), 0.0, 1.0)


@dataclass(frozen=True)
class Plane:
    """A plane through an array: the axis it cuts, the axes across and up, letters of the ends."""

    name: str
    cut: int | None
    across: int
    up: int
    ends: str = ""  # letters at the left, the right, the top and the bottom


AXIAL = Plane("axial", 2, 0, 1, "RLAP")
CORONAL = Plane("coronal", 1, 0, 2, "RLSI")
SAGITTAL = Plane("sagittal", 0, 1, 2, "APSI")
PICTURE = Plane("", None, 1, 0)


@dataclass(frozen=True)
class View:
    """The view in a column: a plane, around the domain or whole, with the map or without."""

    head: str
    plane: Plane
    is_zoomed: bool
    has_map: bool


WHOLE_SLICE = View("axial, whole", AXIAL, is_zoomed=False, has_map=False)
AROUND = tuple(
    View(plane.name, plane, is_zoomed=True, has_map=True) for plane in (AXIAL, CORONAL, SAGITTAL)
)
WHOLE_PICTURE = View("image", PICTURE, is_zoomed=False, has_map=False)
MAPPED_PICTURE = View("map", PICTURE, is_zoomed=False, has_map=True)
AROUND_PICTURE = View("map, enlarged", PICTURE, is_zoomed=True, has_map=True)
VOLUME_VIEWS = (WHOLE_SLICE, *AROUND)
PICTURE_VIEWS = (WHOLE_PICTURE, MAPPED_PICTURE, AROUND_PICTURE)


@dataclass(frozen=True)
class Scene:
    """The data that the panels of one instance share; boxes are in mm from the first voxel."""

    grey: Float[np.ndarray, "channel *grid"]  # 0 is black, 1 is white
    values: Float[np.ndarray, "*shape"]
    domain: Bool[np.ndarray, "*grid"]
    center: tuple[int, ...]
    spacing: Float[np.ndarray, " axis"]
    scale: Colours
    picture: UInt8[np.ndarray, "y x 3"] | None = None

    def values_of(self, channel: int) -> Float[np.ndarray, "*grid"]:
        """Return the map of a channel; a heat map belongs to all channels."""
        is_heat = self.values.ndim == self.domain.ndim
        return self.values if is_heat else np.asarray(self.values[channel])

    def section(
        self, array: Shaped[np.ndarray, "*grid"], plane: Plane
    ) -> Shaped[np.ndarray, "up across"]:
        """Cut the array in a plane through the centre."""
        if plane.cut is None:
            return array
        return np.asarray(np.take(array, self.center[plane.cut], axis=plane.cut).T)

    def box(self, view: View) -> Float[np.ndarray, "end axis"]:
        """Compute the cube that a view shows: first and last corner in mm from the first voxel."""
        shown = self.domain if view.is_zoomed else np.asarray(self.grey.any(axis=0))
        ends = _ends(shown) * self.spacing
        center = np.array(self.center) * self.spacing if view.is_zoomed else ends.mean(axis=0)
        reach = float(abs(ends - center).max())
        half = max(ZOOM / 2, reach + MARGIN) if view.is_zoomed else 1.08 * reach
        return np.stack([center - half, center + half])


def grey_image(image: Float[np.ndarray, "channel *grid"]) -> Float[np.ndarray, "channel *grid"]:
    """Scale each channel from black to white between its extremes in the foreground."""
    foreground = (image != 0).any(axis=0)
    grey = np.zeros(image.shape, dtype=np.float32)
    for channel, shades in zip(image, grey, strict=True):
        low, high = np.quantile(channel[foreground], [0.005, 0.995]) if foreground.any() else (0, 1)
        shades[:] = np.clip((channel - low) / max(high - low, 1e-12), 0, 1) * foreground
    return grey


def middle_voxel(domain: Bool[np.ndarray, "*grid"]) -> tuple[int, ...]:
    """Find the domain's voxel nearest to its centroid; the middle of the grid if it is empty."""
    voxels = np.argwhere(domain)
    if not len(voxels):
        return tuple(size // 2 for size in domain.shape)
    nearest = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return tuple(int(index) for index in voxels[nearest])


def _ends(mask: Bool[np.ndarray, "*grid"]) -> Float[np.ndarray, "end axis"]:
    """Find the first and last voxel of a mask along each axis; of the grid if it is empty."""
    if not mask.any():
        return np.array([np.zeros(mask.ndim), np.array(mask.shape) - 1.0])
    voxels = np.argwhere(mask)
    return np.array([voxels.min(axis=0), voxels.max(axis=0)], dtype=float)


def draw_panel(
    panel: Axes, scene: Scene, view: View, channel: int, others: Mask | None = None
) -> None:
    """Draw one view of one channel, its map and its outlines into a panel."""
    if scene.picture is not None and not view.has_map:
        _draw_picture(panel, scene, scene.picture)
    else:
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
    scene: Scene,
    plane: Plane,
    array: Float[np.ndarray, "*grid"],
    scale: Colours,
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


def _draw_picture(panel: Axes, scene: Scene, picture: UInt8[np.ndarray, "y x 3"]) -> None:
    down, across = scene.spacing
    height, width = ((np.array(picture.shape[:2]) - 0.5) * scene.spacing).tolist()
    panel.imshow(picture, extent=(-0.5 * across, width, -0.5 * down, height), origin="lower")


def _draw_outline(panel: Axes, scene: Scene, view: View, mask: Mask, colour: str) -> None:
    section = np.pad(scene.section(mask, view.plane), 1).astype(float)
    if not section.any():  # contour would warn
        return
    up, across = (np.arange(size) - 1.0 for size in section.shape)
    across, up = across * scene.spacing[view.plane.across], up * scene.spacing[view.plane.up]
    width = 1.1 if view.is_zoomed else 0.7
    lines = panel.contour(across, up, section, levels=[0.5], colors=[colour], linewidths=[width])
    lines.set_path_effects([withStroke(linewidth=2 * width, foreground="black")])


def _frame(panel: Axes, scene: Scene, view: View) -> None:
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
        write(panel, x, y, letter, size=7)


def _mark_zoom(panel: Axes, scene: Scene, view: View) -> None:
    low, high = scene.box(replace(view, is_zoomed=True))
    axes = [view.plane.across, view.plane.up]
    (x, y), (width, height) = low[axes], (high - low)[axes]
    panel.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=INK, linewidth=0.7))


def _draw_ruler(panel: Axes, scene: Scene, view: View) -> None:
    low, high = scene.box(view)
    length = RULER / float(high[0] - low[0])
    ends, height = [0.05, 0.05 + length], [0.05, 0.05]
    panel.plot(ends, height, color=INK, linewidth=1.5, transform=panel.transAxes)
    write(panel, 0.05 + length / 2, 0.085, f"{RULER:g} mm", size=6)


def write(panel: Axes, x: float, y: float, text: str, size: int) -> None:
    """Write a text with a dark edge into a panel; x and y run from 0 to 1."""
    edge = [withStroke(linewidth=1.5, foreground="black")]
    place: dict[str, Any] = {"transform": panel.transAxes, "ha": "center", "va": "center"}
    panel.text(x, y, text, color=INK, fontsize=size, family=FONT, path_effects=edge, **place)
