"""Pictures of a result: one for each instance, and one of a whole run."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai.geometry import Grid
from segxai.load.resampling import resample, working_grid
from segxai.report import figures
from segxai.report.output_files import check_picture, make_folder
from segxai.report.regridding import regridded
from segxai.report.sheet import save_figure
from segxai.report.tables import SIZE_UNITS, instance_table
from segxai.store.reader import maps, provenance_of_run
from segxai.store.refusal import refusal, source_of, values_of
from segxai.store.schema import attribution_of, domain_grid_of, domain_of, grid_of, group
from segxai.text import file_name
from segxai.types import Attribution


def save_overview(tree: xr.DataTree, run: str, path: Path) -> None:
    """Save one picture of a whole run: the largest instances, each with its map per channel."""
    canvas = canvas_of(tree)
    items = [(title, *canvas.place(stored)) for title, stored in _titled(tree, run)]
    figure = figures.draw_overview(
        canvas.image,
        items,
        channels=_channels(tree),
        spacing=canvas.grid.spacing,
        title=f"{group(tree, 'input').attrs['case']}: {run}",
        unit=_unit(tree, run),
        picture=canvas.picture,
    )
    save_figure(figure, path)


def save_instances(
    tree: xr.DataTree, run: str, folder: Path, *, overwrite: bool = False
) -> Iterator[Path]:
    """Save one picture for each map of a run to a folder, and yield their paths.

    Raises
    ------
    SegxaiError
        If the folder cannot be created or written to, or has other files of these names and
        `overwrite` is False.
    """
    make_folder(folder)
    canvas = canvas_of(tree)
    for title, stored in _titled(tree, run):
        path = folder / file_name(f"{run}-{int(stored.attrs['label'])}.png")
        check_picture(path, overwrite=overwrite)
        values, domain = canvas.place(stored)
        figure = figures.draw_instance(
            canvas.image,
            values,
            domain,
            channels=_channels(tree),
            title=title,
            spacing=canvas.grid.spacing,
            unit=_unit(tree, run),
            picture=canvas.picture,
        )
        save_figure(figure, path)
        yield path


@dataclass(frozen=True)
class Canvas:
    """The grid that instances are drawn on, and the image there.

    Volumes are turned so that their axes run right, anterior, superior: voxels are only reordered.
    If instances live on the user's own picture, images are interpolated to it linearly, and maps
    as `regridded` does.
    """

    grid: Grid
    domain_grid: Grid
    maps_grid: Grid
    image: np.ndarray
    picture: np.ndarray | None

    def place(self, stored: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Place a map of shape (channel, *grid) or (*grid), and its domain, on the whole grid."""
        domain = domain_of(stored, self.domain_grid.shape)
        return (
            self.place_map(attribution_of(stored)),
            resample(domain, self.domain_grid, self.grid, order=0),
        )

    def place_map(self, attribution: Attribution) -> np.ndarray:
        """Place a map, in a box of the maps' grid, on the whole grid."""
        return regridded(attribution, self.maps_grid, self.grid)


def canvas_of(tree: xr.DataTree) -> Canvas:
    """Return the grid to draw a result on, with its image there."""
    domain_grid, maps_grid, stored = domain_grid_of(tree), grid_of(tree), group(tree, "input")
    is_volume = len(domain_grid.shape) == 3
    grid = working_grid(domain_grid, tolerance=math.inf) if is_volume else domain_grid
    image = resample(values_of(stored["image"]), maps_grid, grid, order=1).astype(np.float32)
    picture = values_of(stored["picture"]) if "picture" in stored else None
    return Canvas(grid, domain_grid, maps_grid, image, picture)


def _titled(tree: xr.DataTree, run: str) -> Iterator[tuple[str, xr.Dataset]]:
    rows = {row["label"]: row for row in instance_table(tree, run)}
    for label, stored in maps(tree, run).items():
        if label not in rows:
            raise refusal(source_of(stored), f"run {run} has no summary of instance {label}")
        yield _title(rows[label]), stored


def _title(row: Mapping[str, Any]) -> str:
    if row["label"] == 0:
        return "whole class"
    name = (
        row["class"]
        if row["class"].endswith(f" {row['label']}")
        else f"{row['class']} {row['label']}"
    )
    sizes = [f"{row[size]:.0f} {unit}" for size, unit in SIZE_UNITS.items() if size in row]
    words = [name, row["outcome"], *sizes]
    return ", ".join([*filter(None, words), *(["estimate"] if row["estimate"] else [])])


def _channels(tree: xr.DataTree) -> list[str]:
    return [str(name) for name in group(tree, "input")["channel"].values]


def _unit(tree: xr.DataTree, run: str) -> str:
    stored = next(iter(maps(tree, run).values()))
    score = provenance_of_run(tree, run).get("score", "score")
    return str(stored["map"].attrs["units"]).replace("score", score, 1)
