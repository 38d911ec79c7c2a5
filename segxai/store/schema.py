"""The schema of a result: names, dimensions, units, provenance. Imports no torch.

A result is a tree of groups:

/                       schema version, provenance
/input                  image(channel, *grid), affine, the user's own grid, a colour picture
/segmentation           probability(class, *grid), labels(*grid)
/instances              one row for each instance
/attributions/RUN       the maps of a run, one behind the other (see `segxai.store.maps`)
/summaries/RUN          peak and trough of each map in each channel
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store.refusal import values_of
from segxai.types import Attribution, Case, Instance

SCHEMA = 3
SIDES = ("start", "stop")
LONGEST_VALUE = 90  # in a message: a sha256 has 64 digits
MEASURED_PACKAGES = ("segxai", "torch", "captum", "numpy", "scipy", "monai")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that values may depend on."""
    found = {"python": platform.python_version()}
    for package in MEASURED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_json(facts: Mapping[str, Any]) -> str:
    """Write facts as JSON (NumPy values too): HDF5 attributes have no types for them."""
    return json.dumps(dict(facts), default=lambda value: value.tolist())


def root_dataset(provenance: Mapping[str, Any]) -> xr.Dataset:
    """Build the root group, without coordinates that child groups would have to align with."""
    return xr.Dataset(attrs={"schema": SCHEMA, "provenance": as_json(provenance)})


def input_dataset(case: Case) -> xr.Dataset:
    """Build the group of the network's input and its place in space."""
    source = case.source_grid or case.grid
    picture = {"picture": (("source_y", "source_x", "rgb"), case.picture)}
    black = {"black": (("channel",), np.array(case.black, np.float32), {"units": case.input_unit})}
    return xr.Dataset(
        {
            **(picture if case.picture is not None else {}),
            **(black if case.black is not None else {}),
            "image": (
                ("channel", *case.grid.axes),
                case.image.astype(np.float32),
                {"units": case.input_unit},
            ),
            "foreground": (case.grid.axes, case.foreground.astype(np.int8)),
            "affine": (("row", "column"), case.grid.affine, {"long_name": "voxel to mm"}),
            "source_affine": (("row", "column"), source.affine),
            "source_shape": (("axis",), np.asarray(source.shape)),
        },
        coords={"channel": list(case.channels)},
        attrs={"case": case.name},
    )


def segmentation_dataset(
    case: Case,
    segmentation: Segmentation,
    instances: Sequence[Instance],
    predicted: Bool[np.ndarray, "*grid"] | None = None,
) -> xr.Dataset:
    """Build the group of the explained classes' probabilities and the labels (smaller ones on top).

    Probabilities and entropy are float16: they are within 0.05 % of themselves, so a threshold that
    is applied to them again may move voxels that lie so close to it. Labels are exact.
    """
    grid = case.domain_grid
    labels = np.zeros(grid.shape, dtype=np.int32)
    for instance in sorted(instances, key=lambda one: len(one.voxels), reverse=True):
        labels[tuple(instance.voxels.T)] = instance.label
    explained = sorted({one.class_index for one in instances})
    probability = np.empty((len(explained), *grid.shape), dtype=np.float16)
    for place, index in enumerate(explained):
        probability[place] = segmentation.probability(index)
    variables: dict[str, Any] = {
        "probability": (("class", *grid.axes), probability),
        "labels": (grid.axes, labels),
        "affine": (("row", "column"), grid.affine, {"long_name": "voxel to mm"}),
    }
    if not segmentation.are_apart:
        unit = {"units": "nat"}
        variables["entropy"] = (grid.axes, segmentation.entropy.astype(np.float16), unit)
    if case.reference is not None:
        variables["reference"] = (grid.axes, case.reference.astype(np.int8))
    if case.regions is not None:
        words = as_json({str(label): name for label, name in case.region_names.items()})
        variables["regions"] = (grid.axes, case.regions.astype(np.int32), {"names": words})
    if predicted is not None:
        variables["predicted"] = (grid.axes, predicted.astype(np.int8))
    names = [segmentation.classes[index] for index in explained]
    return xr.Dataset(variables, coords={"class": names})


def instances_dataset(
    case: Case,
    segmentation: Segmentation,
    instances: Sequence[Instance],
    uncertainty: Float[np.ndarray, " instance"] | None = None,
) -> xr.Dataset:
    """Build the group of the instances, one row each, by label.

    `uncertainty` is the structural uncertainty of each, where it is known.
    """
    grid = case.domain_grid
    probability = {n: segmentation.probability(n) for n in {one.class_index for one in instances}}
    voxels = np.array([len(one.voxels) for one in instances], dtype=np.int64)
    known = {} if uncertainty is None else {"structural_uncertainty": ("label", uncertainty)}
    means = [probability[one.class_index][tuple(one.voxels.T)].mean() for one in instances]
    return xr.Dataset(
        {
            "class": ("label", _words(segmentation.classes[one.class_index] for one in instances)),
            "outcome": ("label", _words(one.outcome for one in instances)),
            "voxels": ("label", voxels),
            **_sources(instances),
            **_sizes(voxels * grid.voxel_volume_mm3, grid),
            "mean_probability": ("label", np.array(means, dtype=np.float64)),
            **known,
            **_places(instances, grid),
        },
        coords={
            "label": np.array([one.label for one in instances], dtype=np.int64),
            "axis": list(grid.axes),
            "side": list(SIDES),
        },
    )


def _sources(instances: Sequence[Instance]) -> dict[str, Any]:
    """Return the labels of the instances that controls have the shape of, where there are any."""
    if not any(one.outcome == "TN" for one in instances):
        return {}
    return {"source": ("label", np.array([one.source for one in instances], dtype=np.int64))}


def _sizes(volumes: np.ndarray, grid: Grid) -> dict[str, Any]:
    """Return the instances' sizes; pictures have no scale, so they get areas in pixels."""
    name = "volume_mm3" if len(grid.shape) == 3 else "area_px"
    return {name: ("label", volumes, {"units": grid.volume_unit})}


def _places(instances: Sequence[Instance], grid: Grid) -> dict[str, Any]:
    """Locate the instances: centroids in mm (px in pictures), boxes in voxels of the grid."""
    unit = grid.length_unit
    count, rank = len(instances), len(grid.shape)
    centroids = [grid.to_mm(one.voxels.mean(axis=0)) for one in instances]
    boxes = [[one.voxels.min(axis=0), one.voxels.max(axis=0) + 1] for one in instances]
    middle = np.array(centroids, dtype=np.float64).reshape(count, rank)
    bounds = np.array(boxes, dtype=np.int64).reshape(count, 2, rank)
    return {
        f"centroid_{unit}": (("label", "axis"), middle, {"units": unit}),
        "bbox": (("label", "side", "axis"), bounds),
    }


def _words(words: Iterable[str]) -> np.ndarray:
    """Convert texts of any length, or none at all, to an array that HDF5 can store."""
    return np.array(list(words), dtype=object)


def group(tree: xr.DataTree, path: str) -> xr.Dataset:
    """Return one group of a result, read lazily."""
    return tree[path].to_dataset()


def grid_of(tree: xr.DataTree) -> Grid:
    """Read the network's grid from a result."""
    stored = group(tree, "input")
    return Grid(tuple(stored["image"].shape[1:]), stored["affine"].values)


def domain_grid_of(tree: xr.DataTree) -> Grid:
    """Read the grid of instances and probabilities."""
    stored = group(tree, "segmentation")
    return Grid(tuple(stored["labels"].shape), stored["affine"].values)


def source_grid_of(tree: xr.DataTree) -> Grid:
    """Read the grid of the user's own files."""
    stored = group(tree, "input")
    return Grid(tuple(stored["source_shape"].values.tolist()), stored["source_affine"].values)


def attribution_of(stored: xr.Dataset) -> Attribution:
    """Restore a stored map as it was computed."""
    rank = len(stored["affine"]) - 1
    axes = stored["map"].dims[-rank:]
    error = values_of(stored["standard_error"]) if "standard_error" in stored else None
    offset = tuple(int(stored[axis].values[0]) for axis in axes)
    label, unit = int(stored.attrs["label"]), stored["map"].attrs["units"]
    facts = json.loads(stored.attrs["facts"])
    return Attribution(label, values_of(stored["map"]), offset, error, facts, unit)


def domain_of(stored: xr.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Restore the domain of a stored map, as booleans on the whole of its grid."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(domain_voxels_of(stored).T)] = True
    return mask


def domain_voxels_of(stored: xr.Dataset) -> np.ndarray:
    """Restore the domain of a stored map as voxels (voxel, axis) of its grid, in C order."""
    domain = stored["domain"]
    starts = [int(stored[axis].values[0]) for axis in domain.dims]
    return np.argwhere(values_of(domain) != 0) + starts


def provenance_of(stored: xr.Dataset) -> dict[str, Any]:
    """Read the provenance in the root group of a result, or in the group of one of its runs."""
    provenance: dict[str, Any] = json.loads(stored.attrs["provenance"])
    return provenance


def continued(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Update the provenance of a run that a later command resumes or adds instances to.

    All instances that were ever asked for are kept; when and how it was resumed is added to
    "resumed".
    """
    chosen = (stored["labels"], asked["labels"])
    united = "all" if "all" in chosen else sorted({*chosen[0], *chosen[1]})
    again = {name: asked[name] for name in ("started", "compute")}
    return {**stored, "labels": united, "resumed": [*stored.get("resumed", ()), again]}


def difference(stored: Any, asked: Any, path: str = "") -> str:
    """Describe the first difference between two provenances, on a short line; "" if they agree."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        names = dict.fromkeys((*stored, *asked))
        pairs = [(name, stored.get(name), asked.get(name)) for name in names]
    elif _are_alike(stored, asked):
        both = list(zip(stored, asked, strict=True))
        pairs = [(_number(*pair, number), *pair) for number, pair in enumerate(both, start=1)]
    else:
        here, there = _shortly(stored), _shortly(asked)
        return "" if stored == asked else f"{path.strip()} is {here} in the file, {there} now"
    found = (difference(here, there, f"{path}{name} ") for name, here, there in pairs)
    return next(filter(None, found), "")


def _are_alike(stored: Any, asked: Any) -> bool:
    """Return whether both are lists of as many records, which can be compared one by one."""
    return (
        isinstance(stored, list)
        and isinstance(asked, list)
        and len(stored) == len(asked)
        and all(isinstance(one, Mapping) for one in (*stored, *asked))
    )


def _number(stored: Mapping[str, Any], asked: Mapping[str, Any], number: int) -> str:
    """Name a record in a list: by its role where both have the same, or else by its number."""
    role = stored.get("role")
    return str(role) if role is not None and role == asked.get("role") else str(number)


def _shortly(value: Any) -> str:
    """Write a value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
