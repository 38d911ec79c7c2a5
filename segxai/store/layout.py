"""Layout: every array of a result has the axes, the type and the shape that the schema says.

`docs/reference/result-file.md` is the list that is checked here. Values are not read, apart from
coordinates, labels and affines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr

from segxai.geometry import AXES
from segxai.store.records import FACTS, RUN_RECORD, check_record, parsed, parsed_case
from segxai.store.refusal import DamageError
from segxai.store.schema import SIDES

WORDS, NUMBERS, INTEGERS = "OU", "fiu", "iu"
PLAUSIBLE_VOXELS: Final = 3 * 10**8  # of the user's own grid, which is stored as numbers alone
FINER: Final = 64  # a source grid may have so many times the voxels of the network's
FARTHEST_MM: Final = 1e7
SMALLEST_DETERMINANT: Final = 1e-6  # of axes of length 1: they span a volume


def check_layout(tree: xr.DataTree) -> None:
    """Check that a tree is a result: all groups of the schema, with arrays that fit together.

    Raises
    ------
    DamageError
        If something is missing or is something else; the first such thing is named.
    """
    for name in ("input", "segmentation", "instances"):
        _child(tree, name)
    _only_groups(tree, "the root")
    parsed_case(tree.attrs.get("provenance"))
    places = places_of(tree)
    _check_instances(tree["instances"].to_dataset(), places.axes)
    for name, run in _children(tree, "attributions"):
        _check_run(run, f"attributions/{name}", places)
    for name, table in _children(tree, "summaries"):
        _check_summaries(table.to_dataset(), f"summaries/{name}", places.channels)


@dataclass(frozen=True)
class Places:
    """The grids of maps and of domains by their axes, and the names of the channels."""

    axes: dict[str, int]
    channels: list[str]
    domain_axes: dict[str, int]


def places_of(tree: xr.DataTree) -> Places:
    """Check the input and the prediction of a result, and return where its maps may lie."""
    axes = _check_input(tree["input"].to_dataset())
    domain_axes = _check_segmentation(tree["segmentation"].to_dataset(), axes)
    channels = _words(tree["input"].to_dataset()["channel"])
    return Places(axes, channels, domain_axes)


def _check_input(stored: xr.Dataset) -> dict[str, int]:
    """Check the network's input, and return its grid: the number of voxels by axis."""
    image = _variable(stored, "input", "image", NUMBERS)
    grid_axes = AXES.get(image.ndim - 1, ())
    if not grid_axes or image.dims != ("channel", *grid_axes) or 0 in image.shape:
        raise DamageError(f"input/image has the axes {image.dims}")
    axes = {str(axis): int(image.sizes[axis]) for axis in grid_axes}
    _array(stored, "input", "foreground", NUMBERS, grid_axes, optional=True)
    _array(stored, "input", "black", NUMBERS, ("channel",), optional=True)
    _unique(stored, "input", "channel")
    for name in ("affine", "source_affine"):
        _check_affine(stored, "input", name, len(axes))
    _word(stored, "input", "case")
    _check_source(stored, axes)
    return axes


def _check_source(stored: xr.Dataset, axes: dict[str, int]) -> None:
    """Check the shape of the user's own grid, on which maps are exported."""
    array = _array(stored, "input", "source_shape", INTEGERS, ("axis",))
    shape = array.values.tolist()
    most = max(PLAUSIBLE_VOXELS, FINER * prod(axes.values()))
    if len(shape) != len(axes) or min(shape) < 1 or prod(shape) > most:
        raise DamageError(f"input/source_shape is {shape}")
    if "picture" not in stored:
        return
    picture = _array(stored, "input", "picture", INTEGERS, ("source_y", "source_x", "rgb"))
    if picture.shape != (*shape, 3) or picture.dtype != np.uint8:
        raise DamageError(f"input/picture has the shape {picture.shape}")


def _check_segmentation(stored: xr.Dataset, axes: dict[str, int]) -> dict[str, int]:
    """Check the prediction, and return the grid of the domains."""
    where, names = "segmentation", tuple(axes)
    labels = _array(stored, where, "labels", INTEGERS, names)
    _array(stored, where, "probability", NUMBERS, ("class", *names))
    for name in ("reference", "predicted", "regions"):
        _array(stored, where, name, NUMBERS, names, optional=True)
    _array(stored, where, "entropy", NUMBERS, names, optional=True)
    _array(stored, where, "class", WORDS, ("class",))
    _check_affine(stored, where, "affine", len(axes))
    return dict(zip(names, labels.shape, strict=True))


def _check_instances(stored: xr.Dataset, axes: dict[str, int]) -> None:
    where = "instances"
    for name, kinds in {"class": WORDS, "outcome": WORDS, "voxels": INTEGERS}.items():
        _array(stored, where, name, kinds, ("label",))
    _array(stored, where, "source", INTEGERS, ("label",), optional=True)
    size = "volume_mm3" if len(axes) == 3 else "area_px"
    for name in (size, "mean_probability"):
        _array(stored, where, name, NUMBERS, ("label",))
    for name in ("volume_mm3", "area_px", "structural_uncertainty"):
        _array(stored, where, name, NUMBERS, ("label",), optional=True)
    _array(stored, where, "bbox", INTEGERS, ("label", "side", "axis"))
    _unique(stored, where, "label")


def _check_run(run: xr.DataTree, where: str, places: Places) -> None:
    record = parsed(run.attrs.get("provenance"), where)
    check_record(record, RUN_RECORD, where, whole=False)
    for name in run.children:
        raise DamageError(f"{where} holds a group, {name}")
    stored = run.to_dataset()
    if stored.variables:  # nothing is there before its first map
        check_maps(stored, where, places)


def check_maps(stored: xr.Dataset, where: str, places: Places) -> None:
    """Check the maps of a run: where each lies on its grid, and in the arrays of the run.

    Raises
    ------
    DamageError
        If something is missing or is something else.
    """
    _unique(stored, where, "label")
    if stored["label"].values.min(initial=0) < 0:
        raise DamageError(f"{where}/label is below 0")
    channels = _words(stored["channel"]) if "channel" in stored else []
    if channels not in ([], places.channels):
        raise DamageError(f"{where}/channel differs from input/channel")
    voxels = _boxes(stored, where, "map_box", "axis", [places.axes])
    sources = {f"source_{axis}": size for axis, size in places.domain_axes.items()}
    domains = _boxes(stored, where, "domain_box", "domain_axis", [places.axes, sources])
    values = voxels * (len(channels) or 1)
    _check_parts(stored, where, "map", values)
    _check_parts(stored, where, "standard_error", values, may_lack=True)
    _check_parts(stored, where, "domain", domains)
    if not isinstance(stored["map"].attrs.get("units"), str):
        raise DamageError(f"{where}/map has no unit")
    _check_facts(stored, where)


def _boxes(
    stored: xr.Dataset, where: str, name: str, axis: str, grids: Sequence[dict[str, int]]
) -> np.ndarray:
    """Check that boxes lie on one of the grids, and return the number of voxels of each."""
    boxes = _array(stored, where, name, INTEGERS, ("label", "side", axis)).values
    names = _words(_array(stored, where, axis, WORDS, (axis,)))
    grid = next((one for one in grids if list(one) == names), None)
    if grid is None or stored.sizes["side"] != len(SIDES):
        raise DamageError(f"{where}/{name} has the axes {names}")
    start, stop = boxes[:, 0].astype(np.int64), boxes[:, 1].astype(np.int64)
    if not ((start >= 0) & (start < stop) & (stop <= list(grid.values()))).all():
        raise DamageError(f"{where}/{name} is not on the grid")
    voxels: np.ndarray = (stop - start).prod(axis=1)
    return voxels


def _check_parts(
    stored: xr.Dataset, where: str, name: str, sizes: np.ndarray | None, *, may_lack: bool = False
) -> np.ndarray:
    """Check that an array consists of parts of these sizes, one behind the other.

    Returns the parts: where each starts and stops.
    """
    array = _array(stored, where, name, NUMBERS, (f"{name}_value",))
    parts = _array(stored, where, f"{name}_range", INTEGERS, ("label", "side")).values
    lengths = parts[:, 1] - parts[:, 0]
    fits = np.ones(len(lengths), dtype=bool) if sizes is None else lengths == sizes
    ends = np.append(0, parts[:, 1])
    follow_each_other = (ends[:-1] == parts[:, 0]).all() and ends[-1] == array.size
    if not (
        follow_each_other and (lengths >= 0).all() and (fits | may_lack * (lengths == 0)).all()
    ):
        raise DamageError(f"{where}/{name}_range does not divide {name} into maps")
    return parts


def _check_facts(stored: xr.Dataset, where: str) -> None:
    parts = _check_parts(stored, where, "facts", None)
    if stored["facts"].dtype != np.uint8:
        raise DamageError(f"{where}/facts holds {stored['facts'].dtype}")
    content = stored["facts"].values
    for label, (start, stop) in zip(stored["label"].values.tolist(), parts, strict=True):
        name = f"map {label} of {where}"
        facts = parsed(content[start:stop].tobytes(), name)
        check_record(facts, FACTS, name, whole=True)


def _check_summaries(stored: xr.Dataset, where: str, channels: list[str]) -> None:
    for name in ("peak", "trough"):
        _array(stored, where, name, NUMBERS, ("label", "channel"))
    _unique(stored, where, "label")
    if _words(stored["channel"]) not in (channels, ["heat"]):
        raise DamageError(f"{where}/channel differs from input/channel")


def _check_affine(stored: xr.Dataset, where: str, name: str, rank: int) -> None:
    """Check that an affine gives voxels a size and a place."""
    affine = _array(stored, where, name, NUMBERS, ("row", "column")).values
    if affine.shape == (rank + 1, rank + 1) and (abs(affine) < FARTHEST_MM).all():
        steps = np.linalg.norm(affine[:-1, :-1], axis=0)
        is_last_row_usual = (affine[-1] == np.eye(rank + 1)[-1]).all()
        are_long = (steps > 1 / FARTHEST_MM).all()
        if is_last_row_usual and are_long and _volume(affine, steps) > SMALLEST_DETERMINANT:
            return
    raise DamageError(f"{where}/{name} is no affine")


def _volume(affine: np.ndarray, steps: np.ndarray) -> float:
    return float(abs(np.linalg.det(affine[:-1, :-1] / steps)))


def _array(
    stored: xr.Dataset,
    where: str,
    name: str,
    kinds: str,
    dims: Sequence[str],
    *,
    optional: bool = False,
) -> xr.DataArray:
    """Return an array that has a type of these kinds and these axes."""
    if optional and name not in stored:
        return xr.DataArray()
    array = _variable(stored, where, name, kinds)
    if array.dims != tuple(dims):
        raise DamageError(f"{where}/{name} has the axes {array.dims}")
    return array


def _variable(stored: xr.Dataset, where: str, name: str, kinds: str) -> xr.DataArray:
    if name not in stored.variables:
        raise DamageError(f"there is no {where}/{name}")
    array = stored[name]
    if array.size and array.dtype.kind not in kinds:  # of no words, the type is not kept
        raise DamageError(f"{where}/{name} holds {array.dtype}")
    return array


def _unique(stored: xr.Dataset, where: str, name: str) -> None:
    """Check names of rows or channels: each may stand for one only."""
    array = _array(stored, where, name, WORDS if name == "channel" else INTEGERS, (name,))
    values = array.values.tolist()
    if len(set(values)) < len(values):
        raise DamageError(f"{where}/{name} has the same value twice")


def _words(array: xr.DataArray) -> list[str]:
    return [str(one) for one in array.values]


def _word(stored: xr.Dataset, where: str, name: str) -> None:
    if not isinstance(stored.attrs.get(name), str):
        raise DamageError(f"{where} has no {name}")


def _child(tree: xr.DataTree, name: str) -> None:
    if name not in tree.children:
        raise DamageError(f"there is no group {name}")


def _children(tree: xr.DataTree, name: str) -> list[tuple[str, Any]]:
    if name not in tree.children:
        return []
    _only_groups(tree[name], name)
    return list(tree[name].children.items())


def _only_groups(tree: Any, where: str) -> None:
    """Check that a group holds nothing but groups."""
    arrays = list(tree.to_dataset().variables)
    if arrays:
        raise DamageError(f"{where} holds an array, {arrays[0]}")
