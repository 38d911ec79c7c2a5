"""Strips: what a model was shown, picture by picture, and the probability it gave (Fig. 13A)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from matplotlib import rc_context
from matplotlib.figure import Figure

from segxai.experiments.drawing import STYLE, chart
from segxai.geometry import Grid

MARGIN = 28.0  # mm (pixels) around the middle of a domain

Strip = Mapping[str, np.ndarray]


def section_around(
    domain: Bool[np.ndarray, "*grid"], grid: Grid
) -> tuple[Int[np.ndarray, "voxel axis"], tuple[int, ...]]:
    """List the voxels around a domain, in 3D in the plane of the first two axes, and a shape.

    In C order. At the border of the grid the section is moved inwards, and not made smaller.
    """
    middle = np.rint(np.argwhere(domain).mean(axis=0)).astype(int)
    reach = [round(MARGIN / step) for step in grid.spacing[:2]] + [0] * (domain.ndim - 2)
    sides = [
        np.arange(min(2 * far + 1, size)) + min(max(at - far, 0), max(size - 2 * far - 1, 0))
        for at, far, size in zip(middle, reach, domain.shape, strict=True)
    ]
    voxels = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, domain.ndim)
    return voxels, tuple(len(side) for side in sides[:2])


def draw_strip(strip: Strip, unit: str) -> Figure:
    """Draw a strip.

    Parameters
    ----------
    strip : mapping
        By number from 0: `image_N`, `probability_N` and `domain_N`, each of shape (*section), and
        in their order `titles`; the `title` of all.
    unit : {"mm", "px"}
        Volumes have sections (x, y), pictures (y, x) from the top.
    """
    titles = strip["titles"].tolist()
    pictures = [strip[f"image_{n}"] for n in range(len(titles))]
    low, high = np.quantile(np.concatenate([one.ravel() for one in pictures]), [0.01, 0.999])
    grey: Any = {"cmap": "gray", "vmin": low, "vmax": high, "origin": "lower"}
    heat: Any = {"cmap": "magma", "vmin": 0, "vmax": 1, "origin": "lower"}
    with rc_context(STYLE):
        figure, panels = chart(2, len(titles), width=2.2, height=2.3)
        for number, title in enumerate(titles):
            domain = _upright(strip[f"domain_{number}"], unit).astype(float)
            ways = (("image", grey), ("probability", heat))
            for (name, how), row in zip(ways, panels, strict=True):
                panel = row[number]
                drawn = panel.imshow(_upright(strip[f"{name}_{number}"], unit), **how)
                if 0 < domain.sum() < domain.size:
                    panel.contour(domain, [0.5], colors="#ffe119", linewidths=0.8)
                panel.set(xticks=[], yticks=[])
                panel.grid(visible=False)
            panels[0][number].set_title(title)
        panels[0][0].set_ylabel("shown")
        panels[1][0].set_ylabel("probability")
        figure.colorbar(drawn, ax=panels[1], shrink=0.8)
        figure.suptitle(str(strip["title"]), fontsize=12)
    return figure


def _upright(section: np.ndarray, unit: str) -> np.ndarray:
    return section.T if unit == "mm" else section[::-1]
