"""A strip: the same instance under several runs, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure

from segxai.report.panels import (
    AROUND,
    AROUND_PICTURE,
    WHOLE_PICTURE,
    WHOLE_SLICE,
    Colours,
    Scene,
    draw_panel,
    grey_image,
    middle_voxel,
    write,
)
from segxai.report.sheet import by_default, colour_scale, finish, make_sheet

SIDE = 2.2  # inches, of a panel


@dataclass(frozen=True)
class Seen:
    """An instance as one run explains it.

    Parameters
    ----------
    name : str
        Of the run.
    values : ndarray of shape (channel, *grid), or (*grid) for a heat map
        Its map.
    domain : ndarray of shape (*grid)
        The instance's voxels in this run.
    """

    name: str
    values: Float[np.ndarray, "*shape"]
    domain: Bool[np.ndarray, "*grid"]


@by_default
def draw_strip(
    image: Float[np.ndarray, "channel *grid"],
    seen: Sequence[Seen],
    *,
    channels: Sequence[str],
    spacing: Sequence[float],
    title: str,
    unit: str | None,
    picture: UInt8[np.ndarray, "y x 3"] | None = None,
) -> Figure:
    """Draw an instance under several runs: a row for each channel, a column for each run.

    The first column shows the whole slice. All others show the same plane around the instance.

    Parameters
    ----------
    image, channels, spacing, title, picture
        As for `segxai.report.figures.draw_instance`.
    seen : sequence of Seen
        The runs, in their order.
    unit : str, optional
        That of all maps, which are drawn on one scale. None if units differ: then each map has a
        scale of its own, whose end is written into its panels.
    """
    scales = _scales(seen, image.ndim - 1, is_one=unit is not None)
    whole, around = (WHOLE_SLICE, AROUND[0]) if image.ndim == 4 else (WHOLE_PICTURE, AROUND_PICTURE)
    place, grey = middle_voxel(seen[0].domain), grey_image(image)
    figure, panels = make_sheet(len(channels), len(seen) + 1, SIDE)
    for column, (one, scale) in enumerate(zip(seen, scales, strict=True)):
        scene = Scene(grey, one.values, one.domain, place, np.array(spacing), scale, picture)
        for channel, row in enumerate(panels):
            if column == 0:
                draw_panel(row[0], scene, whole, channel)
            draw_panel(row[column + 1], scene, around, channel)
            if unit is None:
                sign = "±" if scale.low < 0 else "to "
                write(row[column + 1], 0.5, 0.9, f"{sign}{scale.high:.2g}", size=7)
    heads = [whole.head, *(one.name for one in seen)]
    bar = None if unit is None else scales[0]
    finish(figure, panels, title=title, heads=heads, names=channels, unit=unit or "", scale=bar)
    return figure


def _scales(seen: Sequence[Seen], rank: int, *, is_one: bool) -> list[Colours]:
    """Scale the colours of each map, or of all together."""
    is_heat = [one.values.ndim == rank for one in seen]
    if is_one:
        together = colour_scale([one.values for one in seen], is_heat=all(is_heat))
        return [together] * len(seen)
    return [
        colour_scale([one.values], is_heat=heat) for one, heat in zip(seen, is_heat, strict=True)
    ]
