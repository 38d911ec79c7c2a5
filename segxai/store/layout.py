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
from segxai.store.records import CASE_RECORD, FACTS, RUN_RECORD, check_record, parsed
from segxai.store.refusal import DamageError

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
    _check_root(tree)
    axes = _check_input(tree["input"].to_dataset())
    domain_axes = _check_segmentation(tree["segmentation"].to_dataset(), axes)
    _check_instances(tree["instances"].to_dataset(), axes)
    channels = _words(tree["input"].to_dataset()["channel"])
    place = _Places(axes, channels, domain_axes)
    for name, run in _children(tree, "attributions"):
        _only_groups(run, f"attributions/{name}")
        _check_run(run, name, place)
    for name, table in _children(tree, "summaries"):
        _check_summaries(table.to_dataset(), f"summaries/{name}", channels)


@dataclass(frozen=True)
class _Places:
    """The grids of maps and of domains by their axes, and the names of the channels."""

    axes: dict[str, int]
    channels: list[str]
    domain_axes: dict[str, int]


def _check_root(tree: xr.DataTree) -> None:
    record = parsed(tree.attrs.get("provenance"), "the case")
    check_record(record, CASE_RECORD, "the case", whole=False)


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
    _array(stored, where, "reference", NUMBERS, names, optional=True)
    _array(stored, where, "class", WORDS, ("class",))
    if "affine" in stored:
        _check_affine(stored, where, "affine", len(axes))
    elif labels.shape != tuple(axes.values()):
        raise DamageError(f"{where}/labels has the shape {labels.shape}")
    return dict(zip(names, labels.shape, strict=True))


def _check_instances(stored: xr.Dataset, axes: dict[str, int]) -> None:
    where = "instances"
    for name, kinds in {"class": WORDS, "outcome": WORDS, "voxels": INTEGERS}.items():
        _array(stored, where, name, kinds, ("label",))
    size = "volume_mm3" if len(axes) == 3 else "area_px"
    for name in (size, "mean_probability"):
        _array(stored, where, name, NUMBERS, ("label",))
    for name in ("volume_mm3", "area_px"):
        _array(stored, where, name, NUMBERS, ("label",), optional=True)
    _array(stored, where, "bbox", INTEGERS, ("label", "side", "axis"))
    _unique(stored, where, "label")


def _check_run(run: xr.DataTree, name: str, places: _Places) -> None:
    where = f"attributions/{name}"
    record = parsed(run.attrs.get("provenance"), where)
    check_record(record, RUN_RECORD, where, whole=False)
    for label, stored in run.children.items():
        if not (label.isascii() and label.isdigit() and str(int(label)) == label):
            raise DamageError(f"{where}/{label} has no number for a name")
        _check_map(stored.to_dataset(), f"{where}/{label}", int(label), places)


def _check_map(stored: xr.Dataset, where: str, label: int, places: _Places) -> None:
    array, names = _variable(stored, where, "map", NUMBERS), tuple(places.axes)
    has_channels = "channel" in array.dims
    dims = ("channel", *names) if has_channels else names
    _array(stored, where, "map", NUMBERS, dims)
    _array(stored, where, "standard_error", NUMBERS, dims, optional=True)
    if has_channels and _words(stored["channel"]) != places.channels:
        raise DamageError(f"{where}/channel differs from input/channel")
    _check_box(stored, where, places.axes)
    domain_axes = places.axes
    if "domain" in stored and names and f"source_{names[0]}" in stored["domain"].dims:
        domain_axes = {f"source_{axis}": size for axis, size in places.domain_axes.items()}
        _check_box(stored, where, domain_axes)
    _array(stored, where, "domain", NUMBERS, tuple(domain_axes))
    _check_affine(stored, where, "affine", len(names))
    if np.ravel(stored.attrs.get("label", ())).tolist() != [label]:
        raise DamageError(f"{where} has another label")
    if not isinstance(array.attrs.get("units"), str):
        raise DamageError(f"{where}/map has no unit")
    facts = parsed(stored.attrs.get("facts"), where)
    check_record(facts, FACTS, where, whole=True)


def _check_box(stored: xr.Dataset, where: str, axes: dict[str, int]) -> None:
    """Check that the coordinates of a box count voxels of its grid, one after the other."""
    for axis, size in axes.items():
        voxels = _array(stored, where, axis, INTEGERS, (axis,)).values
        steps = np.diff(voxels)
        if not len(voxels) or voxels[0] < 0 or voxels[-1] >= size or not (steps == 1).all():
            raise DamageError(f"{where}/{axis} does not count voxels of the grid")


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
