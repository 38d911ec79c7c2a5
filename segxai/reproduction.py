"""Reproduce: repeat a run of a result file from its provenance, and compare the maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai.adapter import Adapter
from segxai.errors import SegxaiError
from segxai.images import file_sha256
from segxai.pipeline import attribute, find
from segxai.plugins import load_adapter
from segxai.protocols import Progress
from segxai.report import maps, run_provenance
from segxai.request import Request
from segxai.results import attribution_of, difference, group, provenance_of
from segxai.task import Task, prepare
from segxai.types import Attribution, Box, Case

TOLERANCE = 1e-5  # of the map's peak: float noise between machines and batch sizes


@dataclass(frozen=True)
class Comparison:
    """How far a repeated map is from the stored one.

    `largest_difference` is absolute, in units of the stored map's largest magnitude.
    """

    label: int
    largest_difference: float

    @property
    def agrees(self) -> bool:
        """Whether it is float noise."""
        return self.largest_difference <= TOLERANCE


def rerun(
    tree: xr.DataTree,
    run: str,
    *,
    folder: Path,
    checkpoint: Path | None = None,
    device: str = "auto",
    progress: Progress,
) -> Iterator[Comparison]:
    """Repeat a run, instance by instance, and compare each map with the stored one.

    Parameters
    ----------
    folder : Path
        Where the input files are; a result knows their names and sha256 only.
    checkpoint : Path, optional
        The weights, where they were not the plugin's own.

    Raises
    ------
    SegxaiError
        If a file is missing or has changed, or the case cannot be prepared as it was.
    """
    stored, how = provenance_of(group(tree, "/")), run_provenance(tree, run)
    task = _task(stored, how, folder, checkpoint, device, progress)
    differs = difference({**stored, "created": None}, {**task.case_provenance, "created": None})
    if differs:
        progress.say(f"warning: {differs}")
    stored_maps = maps(tree, run)
    findings = find(task)
    for instance in findings.explained:
        if instance.label in stored_maps:
            repeated = attribute(task, instance, findings.cost.work[instance.label])
            yield compare(attribution_of(stored_maps[instance.label]), repeated)


def compare(stored: Attribution, repeated: Attribution) -> Comparison:
    """The largest difference of two maps of one grid; either is 0 outside of its own box."""
    frame = Box.spanning([stored.box, repeated.box])
    difference = np.zeros((*stored.values.shape[: -len(frame.size)], *frame.size))
    difference[stored.box.seen_from(frame).index] += stored.values
    difference[repeated.box.seen_from(frame).index] -= repeated.values
    peak = float(np.abs(stored.values).max()) or 1.0
    return Comparison(stored.label, float(np.abs(difference).max()) / peak)


def _task(
    stored: dict[str, Any],
    how: dict[str, Any],
    folder: Path,
    checkpoint: Path | None,
    device: str,
    progress: Progress,
) -> Task:
    adapter = load_adapter(stored["plugin"]["name"])
    domains = stored["domains"]
    mask = None if domains["origin"] == "predicted" else _file(folder, domains["origin"], domains)
    rule, labels = stored["rule"], how["instances"]
    request = Request(
        **{name: how[name] for name in ("method", "aggregator", "layer", "score", "seed", "rows")},
        **{name: how[name] for name in ("samples", "noise", "noise_unit") if name in how},
        crop_mm=how["crop_mm"],
        class_name=adapter.classes[rule["class_index"]],
        threshold=rule["threshold"],
        min_volume_mm3=rule["min_volume_mm3"],
        instances=None if labels == "all" else tuple(labels),
        split=domains.get("split", False),
        device=device,
    )
    case = _case(adapter, stored["case"], folder)
    return prepare(adapter, case, request, checkpoint=checkpoint, mask=mask, progress=progress)


def _case(adapter: Adapter, stored: dict[str, Any], folder: Path) -> Case:
    if stored["name"] == "embedded":
        return adapter.embedded_case()
    files = {one["role"]: _file(folder, one["name"], one) for one in stored["sources"]}
    reference = files.pop("reference", None)
    return adapter.load_case(files, reference)


def _file(folder: Path, name: str, stored: dict[str, Any]) -> Path:
    """The file of this name, if it is still the one that was used."""
    path = folder / name
    if not path.is_file():
        raise SegxaiError(f"no file {name} in {folder}: say where it is with --images FOLDER")
    if file_sha256(path) != stored["sha256"]:
        raise SegxaiError(f"{path} is not the file of the run: its sha256 has changed")
    return path
