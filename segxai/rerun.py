"""Rerun: repeat a stored run from its provenance, and compare the maps."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai.errors import SegxaiError, option
from segxai.geometry import Box
from segxai.load.itk import holds_series, is_series_name
from segxai.load.masks import with_regions
from segxai.load.reader import PICTURE
from segxai.load.volumes import file_sha256
from segxai.methods.options import NoiseOptions
from segxai.pipeline import survey
from segxai.plugins.adapter import Adapter
from segxai.run.attribute import attribute
from segxai.run.options import Balls, Mask, Options, Predicted, Result, Source
from segxai.run.prepare import Task, prepare
from segxai.run.restore import (
    Places,
    adapter_of,
    case_record,
    check_weights,
    class_name,
    criteria_options,
)
from segxai.run.runs import Run
from segxai.store.reader import maps, provenance_of_run
from segxai.store.records import RUN_RECORD, check_record
from segxai.store.refusal import parsing, source_of
from segxai.store.runs import comparable
from segxai.store.schema import attribution_of, difference
from segxai.types import Attribution, Case, Progress

TOLERANCE = 1e-5  # of the map's peak: float noise between machines and batch sizes


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
    stored, _ = _records(tree, run)
    adapter = adapter_of(stored, places)
    yield from repeat(adapter, tree, run, places.folder, device=device, progress=progress)


def repeat(
    adapter: Adapter,
    tree: xr.DataTree,
    run: str,
    folder: Path,
    *,
    device: str = "auto",
    progress: Progress,
) -> Iterator[Comparison]:
    """Repeat a run by an adapter, whose model must be the run's; see `rerun`."""
    stored, how = _records(tree, run)
    case = _case(adapter, stored["case"], folder)
    options = _options(adapter, stored, how, folder, device)
    task = prepare(adapter, case, options, progress=progress)
    _compare_provenance(stored, how, task)
    findings = survey(task)
    task = replace(task, instances=tuple(findings.instances))
    ((again,),), (cost,) = task.groups, findings.costs
    stored_maps = maps(tree, run)
    repeated = [one for one in findings.explained if one.label in stored_maps]
    progress.begin("repeat", sum(cost.work[one.label] for one in repeated))
    for instance in repeated:
        before = attribution_of(stored_maps[instance.label])
        (repeat,) = attribute(task, (_with_copies_of(before, again),), instance, cost)
        yield compare(before, repeat)
    for label in sorted(stored_maps.keys() - {one.label for one in repeated}):
        yield Comparison(label, inf)


def _records(tree: xr.DataTree, run: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the records of the case and of a run; what is missing in them cannot be repeated."""
    stored, how = case_record(tree), provenance_of_run(tree, run)
    with parsing(source_of(tree)):
        check_record(how, RUN_RECORD, f"run {run}", whole=True)
    return stored, how


def _with_copies_of(stored: Attribution, run: Run) -> Run:
    """Return the run with the stored map's number of noisy copies, if the run chose it itself.

    On another machine, float noise could stop the sampling one copy earlier or later, which would
    give another map.
    """
    noise = run.options.noise
    if noise.samples != "auto":
        return run
    if "samples" not in stored.facts:
        raise SegxaiError(f"map {stored.label} does not say from how many copies it was made")
    noise = replace(noise, samples=stored.facts["samples"], tolerance=None)
    return replace(run, options=replace(run.options, noise=noise))


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
    check_weights(stored, now)
    pairs = [({name: stored.get(name)}, {name: now[name]}) for name in now if name != "weights"]
    for before, after in [*pairs, (comparable(how), comparable(task.runs[0].provenance))]:
        differs = difference(before, after)
        if differs:
            task.progress.say(f"warning: {differs}")


def _options(
    adapter: Adapter, stored: dict[str, Any], how: dict[str, Any], folder: Path, device: str
) -> Options:
    """Rebuild the options of a run from its provenance, which has them resolved."""
    noise = {one.name: how[one.name] for one in fields(NoiseOptions) if one.name in how}
    compute = {**how["compute"], "device": device}
    same = ("method", "aggregator", "score", "layer", "rows", "seed", "crop_mm")
    own = {
        name: _file(folder, value["name"], value["sha256"]) if isinstance(value, dict) else value
        for name, value in how["method_options"].items()
    }
    target = stored["target"]
    return Options.of(
        **{name: how[name] for name in same},
        method_options=own,
        contrast=how.get("contrast"),
        layer_layout=how.get("layer_layout"),
        **{**noise, **how["numerics"], **compute},
        **criteria_options(stored),
        class_name=class_name(adapter, stored),
        controls=tuple(target.get("controls", ())),
        instances=_source(target["instances"], folder),
        labels=None if how["labels"] == "all" else tuple(how["labels"]),
        reference_label=target.get("reference_label"),
        tta="tta" in target,
    )


def _source(stored: dict[str, Any], folder: Path) -> Source:
    """Find again where the instances came from."""
    if stored["origin"] == "balls":
        return Balls(tuple(tuple(one) for one in stored["balls"]))
    if stored["origin"] == "predicted":
        return Predicted()
    path = _file(folder, stored["name"], stored["sha256"])
    return Mask(path, stored["split"]) if stored["origin"] == "mask" else Result(path)


def _case(adapter: Adapter, stored: dict[str, Any], folder: Path) -> Case:
    """Load the case from its files, or take the embedded case if it has the same sources."""
    sources = stored["sources"]
    if stored["name"] == "embedded":
        case = replace(adapter.embedded_case(), name="embedded")
        if [asdict(source) for source in case.sources] == sources:
            return case
    files = {one["role"]: _file(folder, one["name"], one["sha256"]) for one in sources}
    reference, regions = files.pop("reference", None), files.pop("regions", None)
    if set(files) not in (set(adapter.files), set(adapter.channels), {PICTURE}):
        raise SegxaiError(
            f"the run read files for {', '.join(files) or 'nothing'}, but {adapter.name!r} takes "
            f"{', '.join(adapter.files)}"
        )
    case = adapter.read(files, reference)
    if regions is not None:
        case = with_regions(case, regions)
    whose = {name: stored.get(name, "") for name in ("name", "patient", "session")}
    return replace(case, **whose)


def _file(folder: Path, name: str, sha256: str) -> Path:
    """Find the file with this name and content in a folder or one of its direct subfolders."""
    found = _candidates(folder, name)
    if not found:
        raise SegxaiError(
            f"no file {name} in {folder}: say where it is with {option('images', 'DIR')}"
        )
    same = [path for path in found if file_sha256(path) == sha256]
    if not same:
        raise SegxaiError(f"{found[0]} is not the file of the run: its sha256 has changed")
    return same[0]


def _candidates(folder: Path, name: str) -> list[Path]:
    """List the regular files of this name; for a DICOM series, the folders that hold one.

    The name comes from the result: it must not lead anywhere else, nor to a device.
    """
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise SegxaiError(f"the result names a file {name!r}, which is no plain file name")
    if not folder.is_dir():
        raise SegxaiError(
            f"no folder {folder}: say where the images are with {option('images', 'DIR')}"
        )
    below = sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
    if is_series_name(name):
        return [one for one in (folder, *below) if holds_series(one)]
    return [path for one in (folder, *below) if (path := one / name).is_file()]
