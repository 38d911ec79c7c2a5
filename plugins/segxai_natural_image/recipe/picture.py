"""Draw one coin's map beside that of the class: `python -m segxai_natural_image.recipe.picture`.

segxai run --plugin natural_image --out coins.h5
segxai run --plugin natural_image --out coins.h5 --append --method class_smoothgrad
python -m segxai_natural_image.recipe.picture coins.h5 coins.png
"""

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image

from segxai import open_result
from segxai.report.panels import SIGNED
from segxai.store.reader import maps, run_names
from segxai.store.schema import group

OCTREE = Image.Quantize.FASTOCTREE  # keeps the few yellow pixels of an outline
COIN = 8  # of the table: one with neighbours on all sides
COLOURS = 224  # of the file: hardly fewer to the eye, and half of the bytes
BACKGROUND, PAPER, OUTLINE = "#08080b", "#e8e8ea", "#ffd23f"


def main() -> None:
    """Read the command line, and draw."""
    parser = argparse.ArgumentParser(description="One coin's map beside that of the class.")
    parser.add_argument("result", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--label", type=int, default=COIN)
    asked = parser.parse_args()
    with open_result(asked.result) as tree:
        save(draw(tree, asked.label), asked.out)


def draw(tree: xr.DataTree, label: int) -> Figure:
    """Three panels: the coin on the photograph, its map, and the map of the class."""
    image = group(tree, "input")["image"].values[0]
    labels = group(tree, "segmentation")["labels"].values
    one = next(name for name in run_names(tree) if label in maps(tree, name))
    whole = next(name for name in run_names(tree) if 0 in maps(tree, name))
    panels = {
        "the photograph, and one coin": None,
        f"map of this coin ({one})": _on_grid(tree, one, label, image.shape),
        f"map of all coins ({whole})": _on_grid(tree, whole, 0, image.shape),
    }
    figure = Figure(figsize=(12.6, 3.8), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _panel(axes, image, values, labels == label)
        axes.set_title(title, color=PAPER, fontsize=10)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a small PNG."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=90, facecolor=BACKGROUND)
    Image.open(stream).convert("RGB").quantize(COLOURS, OCTREE).save(path, optimize=True)


def _on_grid(
    tree: xr.DataTree, run: str, label: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "y x"]:
    """Place the grey channel of a stored map on the whole picture."""
    found = maps(tree, run)[label]
    full = np.zeros(shape)
    full[np.ix_(found["y"].values, found["x"].values)] = found["map"].values[0]
    return full


def _panel(
    axes: Any,
    image: Float[np.ndarray, "y x"],
    values: Float[np.ndarray, "y x"] | None,
    coin: np.ndarray,
) -> None:
    """Draw the photograph; over it, red and blue where a map is positive and negative."""
    axes.imshow(image, cmap="gray", alpha=1.0 if values is None else 0.45)
    if values is not None:
        limit = float(np.quantile(abs(values[values != 0]), 0.995))
        strength = np.clip(abs(values) / limit, 0, 1) ** 0.6
        axes.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, alpha=strength)
    axes.contour(coin, [0.5], colors=OUTLINE, linewidths=1.0)
    axes.set_facecolor(BACKGROUND)
    axes.set_axis_off()


if __name__ == "__main__":
    main()
