"""Export: the maps of a run on the user's own grid, as files that other programs read."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from segxai.errors import SegxaiError
from segxai.grids import resample
from segxai.images import save_volume
from segxai.report import failures_of, instance_table, make_folder, maps, on_grid
from segxai.results import grid_of, group, source_grid_of
from segxai.types import Grid


def export(tree: xr.DataTree, run: str, folder: Path) -> Iterator[Path]:
    """Write NIfTI maps, a label map and a table to a folder, which is made; yields the files.

    Parameters
    ----------
    tree : DataTree
        A 3D result.
    run : str
        One of its runs.
    folder : Path
        Where to: `RUN-LABEL-CHANNEL.nii.gz`, `labels.nii.gz`, `RUN.csv`.

    Raises
    ------
    SegxaiError
        If the result is not 3D, or the folder cannot be made or written.

    Notes
    -----
    Maps are float32. Where the network's grid has other voxels than the input's, they are
    interpolated linearly: values stay derivatives with respect to the network's own voxels.
    """
    grid, source = grid_of(tree), source_grid_of(tree)
    if len(grid.shape) != 3:
        raise SegxaiError(f"a result of {len(grid.shape)} axes cannot be NIfTI; use show --png")
    make_folder(folder)
    labels = resample(group(tree, "segmentation")["labels"].values, grid, source, order=0)
    yield _saved(folder / "labels.nii.gz", labels.astype(np.int32), source)
    channels = [str(name) for name in group(tree, "input")["channel"].values]
    for label, stored in maps(tree, run).items():
        values, _ = on_grid(stored, grid.shape)
        named = zip(channels, values, strict=True) if values.ndim == 4 else [("heat", values)]
        for channel, one in named:
            moved = resample(one, grid, source, order=1).astype(np.float32)
            name = f"{run}-{label}-{channel}.nii.gz".replace("/", "-")
            yield _saved(folder / name, moved, source)
    yield _table(tree, run, folder / f"{run}.csv")


def _saved(path: Path, data: np.ndarray, grid: Grid) -> Path:
    save_volume(path, data, grid)
    return path


def _table(tree: xr.DataTree, run: str, path: Path) -> Path:
    rows = instance_table(tree, run)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with failures_of(path), path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
