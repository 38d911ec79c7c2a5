"""The model of a result, loaded again from its provenance: for reruns and experiments."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from segxai.errors import SegxaiError, option
from segxai.models.own_model import OwnModel, adapter_again, is_own
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_adapter
from segxai.run.options import Options
from segxai.run.prepare import Task, prepare
from segxai.store.reader import case_of
from segxai.store.records import CASE_RECORD, check_record
from segxai.store.refusal import parsing, source_of
from segxai.store.schema import group, provenance_of
from segxai.types import Progress


@dataclass(frozen=True)
class Places:
    """The present locations of a run's files: the folder of its images, its weights, its model.

    Images are regular files in the folder, or in a folder directly in it.

    A result stores only the names and the sha256 of its files. `checkpoint` is None for the
    plugin's own weights; `own` says where the user's own model is, if the run used one.
    """

    folder: Path = Path()
    checkpoint: Path | None = None
    own: OwnModel = field(default_factory=OwnModel)


def case_record(tree: xr.DataTree) -> dict[str, Any]:
    """Read the provenance of a result's case; what is missing in it cannot be repeated."""
    stored = provenance_of(group(tree, "/"))
    with parsing(source_of(tree)):
        check_record(stored, CASE_RECORD, "the case", whole=True)
    return stored


def adapter_of(stored: Mapping[str, Any], places: Places) -> Adapter:
    """Load the adapter of a result's model: the plugin's, or the user's own model if it used one.

    Raises
    ------
    SegxaiError
        If the model is not given, or fails to load.
    """
    key = (stored["weights"] or {}).get("key")
    if is_own(stored):
        return adapter_again(stored, replace(places.own, weights_key=key), places.checkpoint)
    return load_adapter(
        stored["plugin"]["name"], places.checkpoint, key if places.checkpoint else None
    )


def check_weights(stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a prepared task has the weights of a result: another model repeats nothing.

    Parameters
    ----------
    stored, now : mapping
        Provenance of the case, in the result and of the task.

    Raises
    ------
    SegxaiError
        If the weights are others.
    """
    used, found = stored["weights"] or {}, now["weights"] or {}
    if used.get("sha256") != found.get("sha256"):
        raise SegxaiError(
            f"the run used {_named(used)}, not {_named(found)}; give the file with "
            f"{option('checkpoint')}"
        )


def _named(weights: Mapping[str, Any]) -> str:
    """Name weights by their file."""
    if not weights:
        return "weights that the model makes itself"
    return f"the weights {weights.get('name')} (sha256 {weights.get('sha256')})"


def class_name(adapter: Adapter, stored: Mapping[str, Any]) -> str | None:
    """Return the name of the class that a result explains; None for objects of any class.

    Raises
    ------
    SegxaiError
        If the model does not have it.
    """
    target = stored["target"]
    if target["class"] is None:
        return None
    index = target["class_index"]
    if not 0 <= index < len(adapter.classes):
        raise SegxaiError(f"the run explained class {index}, which {adapter.name!r} does not have")
    return adapter.classes[index]


def criteria_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result took for an instance, as options."""
    target = stored["target"]
    names = ("threshold", "min_volume_mm3", "connectivity")
    return {**{name: target[name] for name in names}, "match": target.get("match")}


def task_on_stored_image(
    tree: xr.DataTree, places: Places, *, device: str = "auto", progress: Progress
) -> Task:
    """Prepare the model of a result for the image that the result holds; no image file is read.

    Raises
    ------
    SegxaiError
        If the model is not given, or has other weights.
    """
    stored = case_record(tree)
    adapter = adapter_of(stored, places)
    options = Options.of(
        method="gradient",
        class_name=class_name(adapter, stored),
        tta="tta" in stored["target"],
        device=device,
        **criteria_options(stored),
    )
    case = replace(case_of(tree), reference=None)  # its outcomes are in the result
    task = prepare(adapter, case, options, progress=progress)
    check_weights(stored, task.case_provenance)
    return task
