"""Rerun: repeat a stored run from its provenance, and compare the maps."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.load.volumes import file_sha256
from segxai.models.own_model import OwnModel, adapter_again, is_own
from segxai.pipeline import attribute
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_adapter
from segxai.run.find import find
from segxai.run.options import Request
from segxai.run.prepare import Task, prepare
from segxai.store.reader import maps, provenance_of_run
from segxai.store.runs import comparable
from segxai.store.schema import attribution_of, difference, group, provenance_of
from segxai.types import Attribution, Case, Progress

TOLERANCE = 1e-5  # of the map's peak: float noise between machines and batch sizes
OPTIONAL = ("samples", "tolerance", "antithetic", "noise", "noise_unit", "precision")


@dataclass(frozen=True)
class Places:
    """The present locations of a run's files: the folder of its images, its weights, its model.

    A result stores only the names and the sha256 of its files. `checkpoint` is None for the
    plugin's own weights; `own` says where the user's own model is, if the run used one.
    """

    folder: Path = Path()
    checkpoint: Path | None = None
    own: OwnModel = field(default_factory=OwnModel)


@dataclass(frozen=True)
class Comparison:
    """The difference between a repeated map and the stored one.

    `largest_difference` is an absolute value, relative to the stored map's largest magnitude;
    infinite if the instance was not found again.
    """

    label: int
    largest_difference: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is only float noise."""
        return self.largest_difference <= TOLERANCE

    @property
    def in_words(self) -> str:
        """The difference as text for a person."""
        if self.largest_difference == inf:
            return "not found again"
        return f"{self.largest_difference:.1e}"


def rerun(
    tree: xr.DataTree,
    run: str,
    places: Places,
    *,
    device: str = "auto",
    progress: Progress,
) -> Iterator[Comparison]:
    """Repeat a run, instance by instance, and compare each map with the stored one.

    Raises
    ------
    SegxaiError
        If a file is missing or has changed, or the case cannot be prepared as it was.
    """
    stored, how = provenance_of(group(tree, "/")), provenance_of_run(tree, run)
    task = _task(stored, how, places, device, progress)
    _compare_provenance(stored, how, task)
    findings = find(task)
    remaining = maps(tree, run)
    repeated = [one for one in findings.explained if one.label in remaining]
    progress.begin("repeat", sum(findings.cost.work[one.label] for one in repeated))
    for instance in repeated:
        before = attribution_of(remaining.pop(instance.label))
        again = attribute(_with_copies_of(before, task), instance, findings.cost)
        yield compare(before, again)
    for label in remaining:
        yield Comparison(label, inf)


def _with_copies_of(stored: Attribution, task: Task) -> Task:
    """Return the task with the stored map's number of noisy copies, if the run chose it itself.

    On another machine, float noise could stop the sampling one copy earlier or later, which would
    give another map.
    """
    if task.settings.samples != "auto":
        return task
    settings = replace(task.settings, samples=stored.facts["samples"], tolerance=None)
    return replace(task, settings=settings)


def compare(stored: Attribution, repeated: Attribution) -> Comparison:
    """Find the largest difference between two maps on one grid; each is 0 outside its own box."""
    frame = Box.spanning([stored.box, repeated.box])
    difference = np.zeros((*stored.values.shape[: -len(frame.size)], *frame.size))
    difference[stored.box.seen_from(frame).index] += stored.values
    difference[repeated.box.seen_from(frame).index] -= repeated.values
    peak = float(np.abs(stored.values).max()) or 1.0
    return Comparison(stored.label, float(np.abs(difference).max()) / peak)


def _compare_provenance(stored: dict[str, Any], how: dict[str, Any], task: Task) -> None:
    """Warn about what has changed; refuse other weights, as another model cannot repeat a run."""
    now = task.case_provenance
    used, found = stored["weights"] or {}, now["weights"] or {}
    if used.get("sha256") != found.get("sha256"):
        raise SegxaiError(
            f"the run used the weights {used.get('name')} (sha256 {used.get('sha256')}), not "
            f"{found.get('name')} (sha256 {found.get('sha256')}); give the file with --checkpoint"
        )
    pairs = [({name: stored.get(name)}, {name: now[name]}) for name in now if name != "weights"]
    for before, after in [*pairs, (comparable(how), comparable(task.run_provenance))]:
        differs = difference(before, after)
        if differs:
            task.progress.say(f"warning: {differs}")


def _task(
    stored: dict[str, Any], how: dict[str, Any], places: Places, device: str, progress: Progress
) -> Task:
    adapter = _adapter(stored, places)
    domains = stored["domains"]
    has_mask = "sha256" in domains
    mask = _file(places.folder, domains["origin"], domains["sha256"]) if has_mask else None
    request = _request(adapter, stored, how, device)
    return prepare(
        adapter,
        _case(adapter, stored["case"], places.folder),
        request,
        checkpoint=places.checkpoint,
        mask=mask,
        progress=progress,
    )


def _adapter(stored: dict[str, Any], places: Places) -> Adapter:
    """Load the adapter of the run's model: the plugin's, or the user's own model if it used one."""
    if is_own(stored):
        return adapter_again(stored, places.own, places.checkpoint)
    return load_adapter(stored["plugin"]["name"]).of(places.checkpoint)


def _request(adapter: Adapter, stored: dict[str, Any], how: dict[str, Any], device: str) -> Request:
    """Rebuild the request from its provenance."""
    rule, labels = stored["rule"], how["instances"]
    return Request(
        **{name: how[name] for name in ("method", "aggregator", "layer", "score", "seed", "rows")},
        **{name: how[name] for name in OPTIONAL if name in how},
        **({"tolerance": how["row_tolerance"]} if "row_tolerance" in how else {}),
        crop_mm=how["crop_mm"],
        class_name=_class_name(adapter, stored),
        tta="tta" in stored,
        threshold=rule["threshold"],
        min_volume_mm3=rule["min_volume_mm3"],
        instances=None if labels == "all" else tuple(labels),
        spheres=tuple(tuple(one) for one in stored["domains"].get("spheres", ())),
        split=stored["domains"].get("split", False),
        device=device,
        engine=how["engine"],
        batch=how["batch"],
    )


def _class_name(adapter: Adapter, stored: dict[str, Any]) -> str | None:
    """Return the requested class; may be None for a model that finds instances itself."""
    return (
        None if stored["rule"]["class"] is None else adapter.classes[stored["rule"]["class_index"]]
    )


def _case(adapter: Adapter, stored: dict[str, Any], folder: Path) -> Case:
    """Load the case from its files, or take the embedded case if it has the same sources."""
    sources = stored["sources"]
    if stored["name"] == "embedded":
        case = replace(adapter.embedded_case(), name="embedded")
        if [asdict(source) for source in case.sources] == sources:
            return case
    files = {one["role"]: _file(folder, one["name"], one["sha256"]) for one in sources}
    reference = files.pop("reference", None)
    return adapter.load_case(files, reference)


def _file(folder: Path, name: str, sha256: str) -> Path:
    """Find the file with this name and content in a folder or one of its direct subfolders."""
    found = [path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.exists()]
    if not found:
        raise SegxaiError(f"no file {name} in {folder}: say where it is with --images DIR")
    same = [path for path in found if file_sha256(path) == sha256]
    if not same:
        raise SegxaiError(f"{found[0]} is not the file of the run: its sha256 has changed")
    return same[0]
