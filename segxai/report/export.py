"""Export: the maps of a run on the user's own grid, as files that other programs read."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from tifffile import imwrite

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import resample
from segxai.load.volumes import save_volume
from segxai.report.output_files import failures_of, make_folder
from segxai.report.pictures import moved
from segxai.report.tables import instance_table
from segxai.store.reader import maps
from segxai.store.refusal import values_of
from segxai.store.schema import attribution_of, domain_grid_of, grid_of, group, source_grid_of

ENDINGS = {2: ".tif", 3: ".nii.gz"}


def export(tree: xr.DataTree, run: str, folder: Path) -> Iterator[Path]:
    """Write maps, a label map and a table to a folder, and yield the files.

    Parameters
    ----------
    tree : DataTree
        A 3D result, exported as NIfTI, or a 2D one, exported as TIFF.
    run : str
        Name of one of its runs.
    folder : Path
        Created if missing; gets `RUN-LABEL-CHANNEL.nii.gz`, `labels.nii.gz` and `RUN.csv`.

    Raises
    ------
    SegxaiError
        If the result has one axis, or the folder cannot be created or written to.

    Notes
    -----
    Maps are float32. If the network's grid has other voxels than the input's, maps are interpolated
    linearly: values remain derivatives with respect to the network's own voxels.
    """
    grid, source = grid_of(tree), source_grid_of(tree)
    rank = len(grid.shape)
    if rank not in ENDINGS:
        raise SegxaiError(f"a {rank}D result cannot be exported as a picture or a volume")
    make_folder(folder)
    found = values_of(group(tree, "segmentation")["labels"])
    labels = resample(found, domain_grid_of(tree), source, order=0)
    yield _saved(folder / f"labels{ENDINGS[rank]}", labels.astype(np.int32), source)
    channels = [str(name) for name in group(tree, "input")["channel"].values]
    for label, stored in maps(tree, run).items():
        values = moved(attribution_of(stored).on_grid(grid.shape), grid, source)
        named = zip(channels, values, strict=True) if values.ndim > rank else [("heat", values)]
        for channel, one in named:
            name = f"{run}-{label}-{channel}{ENDINGS[rank]}".replace("/", "-")
            yield _saved(folder / name, one.astype(np.float32), source)
    yield _table(tree, run, folder / f"{run}.csv")


def _saved(path: Path, data: np.ndarray, grid: Grid) -> Path:
    if len(grid.shape) == 3:
        save_volume(path, data, grid)
        return path
    with failures_of(path):
        imwrite(path, data)
    return path


def _table(tree: xr.DataTree, run: str, path: Path) -> Path:
    rows = instance_table(tree, run)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with failures_of(path), path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
