"""Export: the maps of a run on the user's own grid, as files that other programs read."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from tifffile import imwrite

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import has_same_voxels, resample
from segxai.report.nifti import save_volume
from segxai.report.output_files import ExportFolder, make_folder
from segxai.report.regridding import RULE, regridded
from segxai.report.tables import instance_table
from segxai.store.reader import maps
from segxai.store.refusal import values_of
from segxai.store.schema import attribution_of, domain_grid_of, grid_of, group, source_grid_of
from segxai.text import file_name, file_names, spreadsheet_cell
from segxai.types import Attribution

ENDINGS = {2: ".tif", 3: ".nii.gz"}


def export(tree: xr.DataTree, run: str, folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write maps, a label map and a table to a folder, and yield the files.

    Parameters
    ----------
    tree : DataTree
        A 3D result, exported as NIfTI, or a 2D one, exported as TIFF.
    run : str
        Name of one of its runs.
    folder : Path
        Created if missing; gets `RUN-LABEL-CHANNEL.nii.gz`, `labels.nii.gz` and `RUN.csv`. Channels
        whose names differ only in what is replaced in file names are numbered.
    overwrite : bool
        Whether files may be replaced that were not exported, or have changed since.

    Raises
    ------
    SegxaiError
        If the result has one axis, the folder cannot be created or written to, or another file is
        in the way.

    Notes
    -----
    Maps are float32. If the network's grid has other voxels than the input's, see `regridded`:
    values remain derivatives with respect to the network's own voxels.
    """
    source, rank = source_grid_of(tree), len(grid_of(tree).shape)
    if rank not in ENDINGS:
        raise SegxaiError(f"a {rank}D result cannot be exported as a picture or a volume")
    make_folder(folder)
    place = ExportFolder(folder, overwrite)
    found = values_of(group(tree, "segmentation")["labels"])
    labels = resample(found, domain_grid_of(tree), source, order=0)
    yield _saved(place, f"labels{ENDINGS[rank]}", labels.astype(np.int32), source)
    for label, stored in maps(tree, run).items():
        yield from export_map(tree, place, f"{run}-{label}", attribution_of(stored))
    yield _table(tree, run, place)


def export_map(
    tree: xr.DataTree, place: ExportFolder, stem: str, attribution: Attribution
) -> Iterator[Path]:
    """Write a map on the grid of a result to `STEM-CHANNEL.nii.gz` on the grid of the user's file.

    Raises
    ------
    SegxaiError
        If a file cannot be written, or another one is in the way.
    """
    grid, source = grid_of(tree), source_grid_of(tree)
    values, rank = regridded(attribution, grid, source), len(grid.shape)
    channels = file_names(str(name) for name in group(tree, "input")["channel"].values)
    named = zip(channels, values, strict=True) if values.ndim > rank else [("heat", values)]
    for channel, one in named:
        name = file_name(f"{stem}-{channel}{ENDINGS[rank]}")
        yield _saved(place, name, one.astype(np.float32), source)


def regridding_note(tree: xr.DataTree) -> str | None:
    """Say how maps are brought to the input's own voxels; None if they have the same."""
    if has_same_voxels(grid_of(tree), source_grid_of(tree)):
        return None
    return f"maps are brought to the input's own voxels: {RULE}"


def _saved(place: ExportFolder, name: str, data: np.ndarray, grid: Grid) -> Path:
    with place.writing(name) as draft:
        if len(grid.shape) == 3:
            save_volume(draft, data, grid)
        else:
            imwrite(draft, data)
    return place.folder / name


def _table(tree: xr.DataTree, run: str, place: ExportFolder) -> Path:
    rows, name = instance_table(tree, run), file_name(f"{run}.csv")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with place.writing(name) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(spreadsheet_cell, columns))
        writer.writerows(
            [spreadsheet_cell(row.get(column, "")) for column in columns] for row in rows
        )
    return place.folder / name
