"""Maps: all of a run lie one behind the other in a few arrays, and each is read on its own.

For every array X of a run, `X_range(label, side)` says where the part of each label starts and
stops. A map is the part of `map`, in the shape that `map_box` gives it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

from segxai.geometry import Box
from segxai.store.refusal import source_of, values_of
from segxai.store.schema import SIDES, as_json, group
from segxai.types import Attribution, Case, Instance

KINDS: Final[Mapping[str, Any]] = {
    "map": np.float32,
    "standard_error": np.float32,
    "domain": np.int8,
    "facts": np.uint8,
}
GROWING: Final = ("label", *(f"{name}_value" for name in KINDS))  # axes that maps are added along


@dataclass(frozen=True)
class FinishedMap:
    """A map as a result stores it.

    Parameters
    ----------
    label : int
        Label of the instance; 0 for a class-level map.
    channels : tuple of str
        Empty for a heat map, which has no channels.
    axes, domain_axes : tuple of str
        Axes of the grid of maps, and of that of domains ("source_y" and so on if it is another).
    box, domain_box : Box
        The voxels that the map and the domain cover.
    values, standard_error : ndarray of shape (channel, *box), or (*box) for a heat map
        The map and its error; None if the map has no error.
    domain : ndarray of shape (*domain_box)
        0 or 1.
    unit : str
        What a value of 1 means.
    facts : str
        What is known of the map, as JSON.
    """

    label: int
    channels: tuple[str, ...]
    axes: tuple[str, ...]
    domain_axes: tuple[str, ...]
    box: Box
    domain_box: Box
    values: np.ndarray
    standard_error: np.ndarray | None
    domain: np.ndarray
    unit: str
    facts: str

    @classmethod
    def of(cls, attribution: Attribution, instance: Instance, case: Case) -> "FinishedMap":
        """Build it from a computed map, its instance and its case."""
        axes, box = case.grid.axes, attribution.box
        has_channels = attribution.values.ndim > len(axes)
        domain_axes, domain_box = axes, box
        if case.domains_on_source:
            domain_axes = tuple(f"source_{axis}" for axis in axes)
            domain_box = Box.around(instance.voxels)
        error = attribution.standard_error
        return cls(
            label=attribution.label,
            channels=case.channels if has_channels else (),
            axes=axes,
            domain_axes=domain_axes,
            box=box,
            domain_box=domain_box,
            values=attribution.values.astype(np.float32),
            standard_error=None if error is None else error.astype(np.float32),
            domain=_within(instance, domain_box),
            unit=attribution.unit.replace("input", case.input_unit),
            facts=as_json(attribution.facts),
        )

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """What the map adds to each array of its run."""
        error = self.standard_error
        found = {
            "map": self.values,
            "standard_error": np.empty(0) if error is None else error,
            "domain": self.domain,
            "facts": np.frombuffer(self.facts.encode(), np.uint8),
        }
        return {name: part.ravel().astype(KINDS[name], copy=False) for name, part in found.items()}


def _within(instance: Instance, box: Box) -> np.ndarray:
    """Mark the voxels of a domain in a box."""
    inside = instance.voxels[box.contains(instance.voxels)]
    mask = np.zeros(box.size, dtype=np.int8)
    mask[tuple(box.local(inside).T)] = 1
    return mask


def run_dataset(maps: Sequence[FinishedMap]) -> xr.Dataset:
    """Build the arrays of a run from its maps, which have the same axes, channels and unit."""
    first = maps[0]
    variables: dict[str, Any] = {
        "map_box": (("label", "side", "axis"), _sides([one.box for one in maps])),
        "domain_box": (
            ("label", "side", "domain_axis"),
            _sides([one.domain_box for one in maps]),
        ),
    }
    for name in KINDS:
        parts = [one.parts[name] for one in maps]
        stops = np.cumsum([part.size for part in parts])
        starts = np.concatenate([[0], stops[:-1]])
        unit = {"units": first.unit} if name in ("map", "standard_error") else {}
        variables[name] = ((f"{name}_value",), np.concatenate(parts), unit)
        variables[f"{name}_range"] = (("label", "side"), np.stack([starts, stops], axis=1))
    coords: dict[str, Any] = {
        "label": np.array([one.label for one in maps], dtype=np.int64),
        "side": list(SIDES),
        "axis": list(first.axes),
        "domain_axis": list(first.domain_axes),
    }
    if first.channels:
        coords["channel"] = list(first.channels)
    return xr.Dataset(variables, coords=coords)


def _sides(boxes: Sequence[Box]) -> np.ndarray:
    return np.array([[box.start, box.stop] for box in boxes], dtype=np.int64)


class Maps(Mapping[int, xr.Dataset]):
    """The maps of a run by increasing label, each read when its values are used.

    Each is a Dataset of `map`, `standard_error` if it has one, `domain` and `affine`, with voxel
    indices of the grid as coordinates, and the attributes `label` and `facts` (JSON).
    """

    def __init__(self, tree: xr.DataTree, run: str) -> None:
        self._run = group(tree, f"attributions/{run}")
        self._affine = group(tree, "input")["affine"].variable
        labels = self._run["label"].values.tolist() if "label" in self._run else []
        self._rows = dict(sorted((label, row) for row, label in enumerate(labels)))

    def __getitem__(self, label: int) -> xr.Dataset:
        """Return one map, without reading its values."""
        row = self._rows[label]
        stored, domain = self._box("map_box", row), self._box("domain_box", row)
        coords = {**self._voxels("axis", stored), **self._voxels("domain_axis", domain)}
        axes, shape = self._axes("axis"), stored.size
        if "channel" in self._run:
            coords["channel"] = self._run["channel"].variable
            axes, shape = ("channel", *axes), (len(self._run["channel"]), *shape)
        variables = {
            "map": self._part("map", row, axes, shape),
            "domain": self._part("domain", row, self._axes("domain_axis"), domain.size),
            "affine": self._affine,
        }
        if np.diff(self._ranges["standard_error"][row]).item():
            variables["standard_error"] = self._part("standard_error", row, axes, shape)
        attrs = {"label": label, "facts": self._facts_of(row)}
        return xr.Dataset(variables, coords=coords, attrs=attrs)

    def __contains__(self, label: object) -> bool:
        """Return whether the run has a map of this label."""
        return label in self._rows

    def __iter__(self) -> Iterator[int]:
        """Yield the labels in increasing order."""
        return iter(self._rows)

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self._rows)

    def facts(self, label: int) -> dict[str, Any]:
        """Read what is known about one map beyond its values."""
        facts: dict[str, Any] = json.loads(self._facts_of(self._rows[label]))
        return facts

    def _facts_of(self, row: int) -> str:
        start, stop = self._ranges["facts"][row]
        return self._facts[start:stop].tobytes().decode()

    @cached_property
    def _facts(self) -> np.ndarray:
        return values_of(self._run["facts"])

    @cached_property
    def _ranges(self) -> dict[str, np.ndarray]:
        return {name: values_of(self._run[f"{name}_range"]) for name in KINDS}

    @cached_property
    def _boxes(self) -> dict[str, np.ndarray]:
        return {name: values_of(self._run[name]) for name in ("map_box", "domain_box")}

    def _box(self, name: str, row: int) -> Box:
        start, stop = self._boxes[name][row]
        return Box(tuple(start.tolist()), tuple((stop - start).tolist()))

    def _axes(self, name: str) -> tuple[str, ...]:
        return tuple(str(axis) for axis in self._run[name].values)

    def _voxels(self, name: str, box: Box) -> dict[str, Any]:
        """Return the coordinates of a box by axis."""
        sides = zip(self._axes(name), box.start, box.stop, strict=True)
        return {axis: np.arange(start, stop) for axis, start, stop in sides}

    def _part(
        self, name: str, row: int, axes: tuple[str, ...], shape: tuple[int, ...]
    ) -> xr.Variable:
        start, _ = self._ranges[name][row]
        stored = self._run[name]
        part = LazilyIndexedArray(_Part(stored.variable, int(start), shape))
        source = {"source": source_of(stored)}
        return xr.Variable(axes, part, stored.attrs, source, fastpath=True)


class _Part(BackendArray):
    """A part of a flat stored array in another shape; read as a whole when it is used."""

    def __init__(self, stored: xr.Variable, start: int, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, stored.dtype
        self._flat = stored[start : start + prod(shape)]

    def __getitem__(self, key: Any) -> Any:
        """Read the part, and index it."""
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.BASIC, self._read)

    def _read(self, key: Any) -> np.ndarray:
        return np.asarray(self._flat.values.reshape(self.shape)[key])
