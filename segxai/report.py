"""Report: tables and figures of a result file. Reads xarray, never torch."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai import figures
from segxai.errors import SegxaiError, one_line, unknown_name
from segxai.geometry import Grid
from segxai.grids import resample, working_grid
from segxai.results import (
    attribution_of,
    domain_grid_of,
    domain_of,
    facts_of,
    grid_of,
    group,
    provenance_of,
)

Row = dict[str, Any]
SIZES = {"volume_mm3": "mm3", "area_px": "px"}
SAMPLING_ERRORS = ("peak_error", "map_error", "map_error_l2")


def run_names(tree: xr.DataTree) -> list[str]:
    """The runs of a result, in the order of their start."""
    if "attributions" not in tree.children:
        return []
    names = tree["attributions"].children
    return sorted(names, key=lambda name: run_provenance(tree, name)["started"])


def run_provenance(tree: xr.DataTree, run: str) -> dict[str, Any]:
    """How the maps of a run were made."""
    return provenance_of(group(tree, f"attributions/{run}"))


def find_run(tree: xr.DataTree, name: str | None) -> str:
    """The run of this name, or the last one.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    names = run_names(tree)
    if not names:
        raise SegxaiError("the result holds no run yet")
    if name is not None and name not in names:
        raise unknown_name("run", name, names)
    return name or names[-1]


def maps(tree: xr.DataTree, run: str) -> dict[int, xr.Dataset]:
    """The groups of a run's maps, by rising label."""
    labels = sorted(tree["attributions"][run].children, key=int)
    return {int(label): group(tree, f"attributions/{run}/{label}") for label in labels}


def unfinished(tree: xr.DataTree, run: str) -> list[int]:
    """The labels that a run was asked for and has no map of; empty when it is complete."""
    asked, done = run_provenance(tree, run)["instances"], set(maps(tree, run))
    if 0 in done:  # the whole class: its only map
        return []
    wanted = group(tree, "instances")["label"].values.tolist() if asked == "all" else asked
    return [label for label in wanted if label not in done]


def instance_table(tree: xr.DataTree, run: str) -> list[Row]:
    """One row for each explained instance.

    Each has "label", "class", "outcome", "volume_mm3" ("area_px" in pictures), "mean_probability",
    the "peak" and "trough" of each channel as "flair peak" and so on, "estimate" (whether its map
    comes from a sample of its rows) and its errors "peak_error", "map_error" and "map_error_l2",
    "energy_left_out" where maps were cut, and a "note" on what to mind. The whole class has its
    label 0, and no outcome or size.
    """
    if "summaries" not in tree.children or run not in tree["summaries"].children:
        return []
    summaries = group(tree, f"summaries/{run}").load()
    instances = group(tree, "instances").load()
    known = set(instances.label.values.tolist())
    facts = {label: facts_of(stored) for label, stored in maps(tree, run).items()}
    rows = []
    for label in summaries.label.values.tolist():
        row: Row = {"label": label}
        row |= _instance_columns(instances.sel(label=label)) if label in known else {}
        for channel in summaries.channel.values.tolist():
            one = summaries.sel(label=label, channel=channel)
            row |= {f"{channel} {name}": float(one[name]) for name in one.data_vars}
        rows.append(row | _reservations(facts[label], row.get("outcome", "")))
    return rows


def _instance_columns(instance: xr.Dataset) -> Row:
    return {
        "class": str(instance["class"].item()),
        "outcome": str(instance["outcome"].item()),
        **{name: float(instance[name]) for name in SIZES if name in instance},
        "mean_probability": float(instance["mean_probability"]),
    }


def _reservations(facts: Mapping[str, Any], outcome: str) -> Row:
    """What is to be minded in reading a map, as columns and in words."""
    columns: Row = {"estimate": facts["estimate"]}
    words = ["missed by the model"] if outcome == "FN" else []
    if facts["estimate"]:
        columns |= {name: facts.get(name) for name in SAMPLING_ERRORS}
        words.append(_estimate(facts))
    if facts.get("rank"):  # 0 where every row was exact
        words.append(f"low rank: rows within {facts['row_error']:.1%} of their peak")
    if "precision" in facts:
        words.append(f"{facts['precision']}: rows within {facts['precision_error']:.1%}")
    if not facts.get("within_tolerance", True):
        words.append(f"{facts['samples']} noisy copies: not within the tolerance")
    if "energy_left_out" in facts:
        columns["energy_left_out"] = facts["energy_left_out"]
        words.append(f"{facts['energy_left_out']:.1%} of the energy cut off")
    return columns | {"note": "; ".join(words)}


def _estimate(facts: Mapping[str, Any]) -> str:
    """How good a map from a sample of its rows is, in words."""
    rows = f" from {facts['rows']} of {facts['domain_voxels']} rows" if "rows" in facts else ""
    peak, anywhere, _ = (facts.get(name) for name in SAMPLING_ERRORS)
    if peak is None or anywhere is None:
        return f"estimate{rows}, error unknown"
    return f"estimate{rows}, error about {peak:.0%} at the peak, {anywhere:.0%} anywhere"


def save_overview(tree: xr.DataTree, run: str, path: Path) -> None:
    """One picture of a whole run: the largest instances, each with its map in each channel."""
    canvas = _canvas(tree)
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
    with failures_of(path):
        figures.save_figure(figure, path)


def save_instances(tree: xr.DataTree, run: str, folder: Path) -> Iterator[Path]:
    """One picture for each map of a run, in a folder that is made; yields their paths.

    Raises
    ------
    SegxaiError
        If the folder cannot be made or written.
    """
    make_folder(folder)
    canvas = _canvas(tree)
    for title, stored in _titled(tree, run):
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
        path = folder / f"{run}-{int(stored.attrs['label'])}.png"
        with failures_of(path):
            figures.save_figure(figure, path)
        yield path


def make_folder(folder: Path) -> None:
    """A folder to write to, with its parents. Raises SegxaiError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegxaiError(f"cannot make the folder {folder}: {error.strerror}") from error


@contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """What keeps a file from being written, as a line for the user: raises SegxaiError."""
    try:
        yield
    except OSError as error:
        raise SegxaiError(f"cannot write {path}: {one_line(error)}") from error


@dataclass(frozen=True)
class Canvas:
    """What instances are drawn on: a grid, and the image there.

    Volumes are turned so that their axes run right, anterior, superior: voxels are reordered and
    nothing is computed. Where instances live on the user's own picture, images and maps are
    interpolated to it linearly.
    """

    grid: Grid
    domain_grid: Grid
    maps_grid: Grid
    image: np.ndarray
    picture: np.ndarray | None

    def place(self, stored: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """A map of shape (channel, *grid) or (*grid), and its domain, on the whole grid."""
        values = attribution_of(stored).on_grid(self.maps_grid.shape)
        domain = domain_of(stored, self.domain_grid.shape)
        return (
            moved(values, self.maps_grid, self.grid),
            resample(domain, self.domain_grid, self.grid, order=0),
        )


def _canvas(tree: xr.DataTree) -> Canvas:
    domain_grid, maps_grid, stored = domain_grid_of(tree), grid_of(tree), group(tree, "input")
    is_volume = len(domain_grid.shape) == 3
    grid = working_grid(domain_grid, tolerance=math.inf) if is_volume else domain_grid
    image = moved(stored["image"].values, maps_grid, grid)
    picture = stored["picture"].values if "picture" in stored else None
    return Canvas(grid, domain_grid, maps_grid, image, picture)


def moved(values: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Values on another grid, interpolated linearly; as they are on their own."""
    same = grid.shape == target.shape and np.array_equal(grid.affine, target.affine)
    return values if same else resample(values, grid, target, order=1).astype(np.float32)


def _titled(tree: xr.DataTree, run: str) -> Iterator[tuple[str, xr.Dataset]]:
    rows = {row["label"]: row for row in instance_table(tree, run)}
    for label, stored in maps(tree, run).items():
        yield _title(rows[label]), stored


def _title(row: Mapping[str, Any]) -> str:
    if row["label"] == 0:
        return "whole class"
    name = (
        row["class"]
        if row["class"].endswith(f" {row['label']}")
        else f"{row['class']} {row['label']}"
    )
    sizes = [f"{row[size]:.0f} {unit}" for size, unit in SIZES.items() if size in row]
    words = [name, row["outcome"], *sizes]
    return ", ".join([*filter(None, words), *(["estimate"] if row["estimate"] else [])])


def _channels(tree: xr.DataTree) -> list[str]:
    return [str(name) for name in group(tree, "input")["channel"].values]


def _unit(tree: xr.DataTree, run: str) -> str:
    stored = next(iter(maps(tree, run).values()))
    return str(stored["map"].attrs["units"]).replace("score", run_provenance(tree, run)["score"], 1)
