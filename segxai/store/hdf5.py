"""HDF5: results are written and read so that whatever is finished stays readable.

Every change is made on a draft (see `segxai.store.atomic_file`): a process that dies at any moment,
or a full disk, leaves the file as it was after the last instance.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from segxai.errors import SegxaiError, one_line
from segxai.segment.segmentation import Segmentation
from segxai.store import schema
from segxai.store.atomic_file import replacing
from segxai.store.compression import packing, packing_of_growing
from segxai.store.layout import check_layout
from segxai.store.maps import GROWING, FinishedMap, run_dataset
from segxai.store.refusal import DamageError, parsing
from segxai.store.structure import check_heaps, check_structure
from segxai.store.summaries import summaries_dataset
from segxai.types import Case, Instance

ENGINE: Final = "h5netcdf"
# Arrays without names for their axes are refused with the rest, and units are never dates.
READING: Final[dict[str, Any]] = {
    "phony_dims": "access",
    "decode_times": False,
    "decode_timedelta": False,
}
# What is read and compressed at once: a map of 20 voxels an axis and two channels is one part.
VALUES_AT_ONCE: Final = 2**14
ROWS_AT_ONCE: Final = 2**8


def create(
    path: Path,
    case: Case,
    segmentation: Segmentation,
    instances: list[Instance],
    provenance: Mapping[str, Any],
    predicted: Bool[np.ndarray, "*grid"] | None = None,
    uncertainty: Float[np.ndarray, " instance"] | None = None,
) -> None:
    """Create a result file with everything but the maps; it replaces an existing one.

    Parameters
    ----------
    predicted : ndarray of shape (*grid), optional
        Where the class is predicted, small components included.
    uncertainty : ndarray of shape (instance,), optional
        The structural uncertainty of each instance.
    """
    groups = {
        "/": schema.root_dataset(provenance),
        "/input": schema.input_dataset(case),
        "/segmentation": schema.segmentation_dataset(case, segmentation, instances, predicted),
        "/instances": schema.instances_dataset(case, segmentation, instances, uncertainty),
    }
    with replacing(path, copy=False) as draft:
        for group, dataset in groups.items():
            _write(draft, group, dataset, mode="w" if group == "/" else "a")


def start_run(path: Path, run: str, provenance: Mapping[str, Any]) -> None:
    """Create the group for the maps of one run, or continue an existing one."""
    with replacing(path) as draft, h5py.File(draft, "a") as file:
        group = file.require_group(f"attributions/{run}")
        stored = group.attrs.get("provenance")
        if stored is not None:
            provenance = schema.continued(json.loads(stored), provenance)
        group.attrs["provenance"] = schema.as_json(provenance)


def add(path: Path, maps: Sequence[tuple[str, FinishedMap]]) -> None:
    """Add finished maps, each to a run, and their rows in the runs' summaries."""
    by_run: dict[str, list[FinishedMap]] = {}
    for run, one in maps:
        by_run.setdefault(run, []).append(one)
    with replacing(path) as draft:
        for run, several in by_run.items():
            _append(draft, f"/attributions/{run}", run_dataset(several))
            _append(draft, f"/summaries/{run}", summaries_dataset(several))


def _append(path: Path, group: str, rows: xr.Dataset) -> None:
    """Add rows to the arrays of a group along the axes that grow; create the arrays if need be."""
    with h5py.File(path, "r") as file:
        exist = f"{group}/label" in file
    if not exist:
        empty = rows.isel({axis: slice(0) for axis in rows.dims if axis in GROWING})
        _write(path, group, empty, grows=True)
    with h5py.File(path, "a") as file:
        _extend(file[group], rows)


def _extend(stored: h5py.Group, rows: xr.Dataset) -> None:
    if ("channel" in stored) != ("channel" in rows.variables):
        raise DamageError("not all maps of the run have channels")
    ends = {name: len(array) for name, array in stored.items()}
    for name, variable in rows.variables.items():
        array, values = stored[str(name)], variable.values
        if variable.dims[0] not in GROWING:
            if array.asstr()[:].tolist() != values.tolist():
                raise DamageError(f"its {name} differs from that of other maps of the run")
            continue
        if variable.attrs.get("units") != array.attrs.get("units"):
            raise DamageError(f"the unit of its {name} differs from that of other maps of the run")
        if str(name).endswith("_range"):
            values = values + ends[str(name).removesuffix("_range")]
        array.resize(len(array) + len(values), axis=0)
        array[-len(values) or len(array) :] = values


def finished(path: Path, run: str) -> set[int]:
    """Return the labels of the maps that a run has already."""
    with h5py.File(path, "r") as file:
        group = file.get(f"attributions/{run}")
        return set() if group is None or "label" not in group else set(group["label"][()].tolist())


def instance_labels(path: Path) -> set[int]:
    """Return the labels of all instances in a file, explained or not."""
    with h5py.File(path, "r") as file:
        return set(file["instances/label"][()].tolist())


def runs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the runs of a file by name, with their provenance."""
    with h5py.File(path, "r") as file:
        group = file.get("attributions", {})
        return {name: json.loads(run.attrs["provenance"]) for name, run in group.items()}


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance of a result file.

    Raises
    ------
    SegxaiError
        If there is no such file, or it is not a result in a readable version.
    """
    _check(path)
    with h5py.File(path, "r") as file:
        provenance: dict[str, Any] = json.loads(file.attrs["provenance"])
    return provenance


def open_result(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a result file as a lazy xarray DataTree; close it, or use it in a `with` block.

    The file is checked before anything in it is read: it may come from a stranger.

    Raises
    ------
    SegxaiError
        If there is no such file, it is not a result in a readable version, it is damaged, or it
        leads to other files or claims to hold more than it can.
    """
    check_file(Path(path))
    with parsing(path):
        tree: xr.DataTree = xr.open_datatree(Path(path), engine=ENGINE, **READING)
        try:
            check_layout(tree)
        except BaseException:
            tree.close()
            raise
    return tree


def check_file(path: Path) -> None:
    """Check a file that may come from a stranger, before anything in it is read.

    Raises
    ------
    SegxaiError
        If there is no such file, it is not a result in a readable version, or it leads to other
        files or claims to hold more than it can.
    """
    with parsing(path):
        check_heaps(path)
    _check(path)
    with parsing(path), h5py.File(path, "r") as file:
        check_structure(file)


def check_writable(path: Path) -> None:
    """Check that a result can be written here, to fail now rather than after hours.

    Raises
    ------
    SegxaiError
        If the folder does not exist or cannot be written to, or the name is not one for a result.
    """
    if not path.parent.is_dir():
        raise SegxaiError(f"--out {path}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise SegxaiError(f"--out {path} is a folder; name a file in it, such as {path / 'out.h5'}")
    if path.suffix.lower() == ".png":
        raise SegxaiError(f"--out {path}: the picture gets this name; end it in .h5")
    if not os.access(path.parent, os.W_OK):
        raise SegxaiError(f"--out {path}: the folder {path.parent} cannot be written to")


def check_replaceable(path: Path) -> None:
    """Check that an existing file is a result of segxai: it may be somebody's image.

    Raises
    ------
    SegxaiError
        If it is not a result; results of other versions are fine.
    """
    if not path.exists():
        return
    try:
        with parsing(path):
            check_heaps(path)
        _schema_version(path)
    except SegxaiError as error:
        raise SegxaiError(
            f"{error}; --overwrite replaces results only: delete it yourself, or name another --out"
        ) from error


def _check(path: Path) -> None:
    version = _schema_version(path)
    if version != schema.SCHEMA:
        raise SegxaiError(
            f"{path} has schema version {version}, this segxai reads {schema.SCHEMA}; "
            f"{'install a newer segxai' if version > schema.SCHEMA else 'run the command again'}"
        )


def _schema_version(path: Path) -> int:
    """Read the schema version of a result file, supported or not."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not a regular file"
        raise SegxaiError(f"{path} {what}" if path.exists() else f"no result file {path}")
    try:
        with h5py.File(path, "r") as file, parsing(path):
            stored = np.ravel(file.attrs.get("schema", ()))  # h5netcdf writes arrays
    except OSError as error:
        raise SegxaiError(
            f"{path} is not a readable HDF5 file ({one_line(error)}); is it a result of segxai?"
        ) from error
    if not (stored.size == 1 and np.issubdtype(stored.dtype, np.integer)):
        raise SegxaiError(f"{path} is HDF5, but not a result of segxai: it has no schema version")
    return int(stored[0])


def _write(
    path: Path,
    group: str,
    dataset: xr.Dataset,
    mode: Literal["w", "a"] = "a",
    *,
    grows: bool = False,
) -> None:
    """Write a group; along the axes in `GROWING`, more may be added later if it grows."""
    growing = [axis for axis in dataset.dims if grows and axis in GROWING]
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        is_number = np.issubdtype(variable.dtype, np.number)
        is_growing = bool(variable.dims) and variable.dims[0] in growing
        encoding[name] = {}
        if is_number and is_growing:
            encoding[name] = packing_of_growing()
        elif is_number and variable.size > 1:
            encoding[name] = packing(variable.values)
        if is_growing:
            rows = ROWS_AT_ONCE if variable.dims[0] == "label" else VALUES_AT_ONCE
            encoding[name]["chunksizes"] = (rows, *variable.shape[1:])
    dataset.to_netcdf(
        path, mode=mode, group=group, engine=ENGINE, encoding=encoding, unlimited_dims=growing
    )
