"""Figures of plain arrays: an instance's map over its image, and a whole case in one picture.

Volumes are drawn as radiologists look at them: the patient's right on the left, front and top up.
Their arrays must therefore run right, anterior, superior (RAS+); letters on every panel say so.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from segxai.errors import SegxaiError
from segxai.report.panels import (
    AROUND,
    AROUND_PICTURE,
    PICTURE_VIEWS,
    VOLUME_VIEWS,
    WHOLE_PICTURE,
    WHOLE_SLICE,
    Mask,
    Scene,
    draw_panel,
    grey_image,
    middle_voxel,
)
from segxai.report.sheet import GAP, LEFT, RIGHT, by_default, colour_scale, finish, make_sheet

Item = tuple[str, Float[np.ndarray, "*shape"], Mask]


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
    scale = colour_scale([values], is_heat=values.ndim == domain.ndim)
    place = middle_voxel(domain) if center is None else tuple(center)
    scene = Scene(grey_image(image), values, domain, place, np.array(spacing), scale, picture)
    views = VOLUME_VIEWS if domain.ndim == 3 else PICTURE_VIEWS
    figure, panels = make_sheet(len(channels), len(views), side=2.2)
    for channel, row in enumerate(panels):
        for panel, view in zip(row, views, strict=True):
            draw_panel(panel, scene, view, channel)
    heads = [view.head for view in views]
    finish(figure, panels, title=title, heads=heads, names=channels, unit=unit, scale=scale)
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
    scale = colour_scale([item[1] for item in drawn], is_heat=drawn[0][1].ndim == image.ndim - 1)
    whole, around = (WHOLE_SLICE, AROUND[0]) if image.ndim == 4 else (WHOLE_PICTURE, AROUND_PICTURE)
    grey, side = grey_image(image), (8 - LEFT - RIGHT) / (len(channels) + 1) - GAP
    figure, panels = make_sheet(len(drawn), len(channels) + 1, side)
    for row, (_, values, domain) in zip(panels, drawn, strict=True):
        place = middle_voxel(domain)
        scene = Scene(grey, values, domain, place, np.array(spacing), scale, picture)
        draw_panel(row[0], scene, whole, 0, others=every)
        for channel, panel in enumerate(row[1:]):
            draw_panel(panel, scene, around, channel)
    first = f"{channels[0]}, whole" if picture is None else "picture"
    heads, names = [first, *channels], [item[0] for item in drawn]
    finish(figure, panels, title=title, heads=heads, names=names, unit=unit, scale=scale)
    return figure


def _largest(items: Iterable[Item], rows: int) -> tuple[list[Item], Mask | None]:
    """Find the items with the largest domains, and the union of all domains."""
    kept: list[Item] = []
    every: Mask | None = None
    for item in items:
        every = item[2] if every is None else every | item[2]
        kept = sorted([*kept, item], key=lambda one: -int(one[2].sum()))[:rows]
    return kept, every
