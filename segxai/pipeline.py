"""The pipeline: segment a case, find its instances, attribute each and store the maps."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from segxai.methods.cropping import crop_at_distance, on_map
from segxai.methods.resume_state import NoBookmark
from segxai.rows.sampling import rows_by_stratum
from segxai.run.cost import Plan
from segxai.run.find import Findings, find
from segxai.run.prepare import Task
from segxai.run.resume import FileBookmark, Meter, owner_of
from segxai.store import hdf5
from segxai.store.atomic_file import state_file
from segxai.store.runs import is_complete, run_name
from segxai.types import Attribution, Instance


def explain_case(task: Task, out: Path, *, append: bool = False, overwrite: bool = False) -> str:
    """Segment a case, find its instances, attribute each, and store each map once it is done.

    An interrupted task resumes where it stopped, even inside an instance, and ends with the same
    values.

    Parameters
    ----------
    out : Path
        The result file.
    append, overwrite : bool
        Whether another run may be added to an existing file, or the file may be replaced.

    Returns
    -------
    str
        The name of the run in the file.

    Raises
    ------
    SegxaiError
        If there is nothing to explain, or `out` belongs to another task.
    """
    run = choose_run(task, out, append=append, overwrite=overwrite)
    wanted = (0,) if task.method.scope == "class" else task.request.instances
    if not overwrite and is_complete(out, run, wanted):
        task.progress.say(f"nothing left to do: all maps are in {out.name}")
        return run
    findings = find(task)
    task.progress.say(findings.in_words())
    if overwrite or not out.exists():
        created = {**task.case_provenance, "created": _now()}
        hdf5.create(out, task.case, findings.segmentation, findings.instances, created)
        state_file(out).unlink(missing_ok=True)  # of the file that was here before
    seen = {"warnings": list(findings.warnings), "started": _now()}
    hdf5.start_run(out, run, {**task.run_provenance, **seen})
    attribute_all(task, findings, out, run)
    return run


def choose_run(task: Task, out: Path, *, append: bool = False, overwrite: bool = False) -> str:
    """Choose the run that the task starts or resumes in a result file, and return its name.

    Raises
    ------
    SegxaiError
        If the file cannot be written, or belongs to another task.
    """
    hdf5.check_writable(out)
    target = None if overwrite else out
    return run_name(target, task.case_provenance, task.run_provenance, append=append)


def attribute_all(task: Task, findings: Findings, out: Path, run: str) -> None:
    """Attribute every instance that has no map in the run yet, and store each map once done."""
    cost, stored = findings.cost, hdf5.finished(out, run)
    bookmarks = {one.label: _bookmark(task, one, cost, out, run) for one in findings.explained}
    for label in stored & bookmarks.keys():
        bookmarks[label].remove()  # killed after its map was stored, before its state was removed
    shares = {label: one.meter.done for label, one in bookmarks.items() if label not in stored}
    # The unfinished instance comes first: the next one to save its state would overwrite it.
    remaining = sorted(
        (one for one in findings.explained if one.label in shares),
        key=lambda one: -shares[one.label],
    )
    _say_what_is_done(task, findings, shares, out)
    left = sum((1 - share) * cost.work[label] for label, share in shares.items())
    task.progress.begin("explain", cost.seconds, cost.seconds - left)
    for instance in remaining:
        bookmark = _bookmark(task, instance, cost, out, run)
        attribution = attribute(task, instance, cost, bookmark)
        hdf5.add(out, run, attribution, instance, task.case)
        bookmark.remove()


def attribute(
    task: Task, instance: Instance, cost: Plan, bookmark: FileBookmark | None = None
) -> Attribution:
    """Compute the map of one instance, resuming from its bookmark if it has one."""
    started, work = perf_counter(), cost.work[instance.label]
    image = torch.from_numpy(task.case.image)[None].to(task.device)
    meter, before = (bookmark.meter, bookmark.seconds) if bookmark else (Meter(), 0.0)
    settings = replace(
        task.settings,
        engine=cost.engine,
        batch=cost.batch,
        tick=lambda share: task.progress.advance(meter.count(share) * work),
        bookmark=bookmark or NoBookmark(),
    )
    attribution = task.method.attribute(task.predictor, image, instance, settings)
    task.progress.advance(meter.complete() * work)
    if task.request.crop_mm is not None:
        domain = on_map(instance, task.case, attribution.box)
        spacing = task.case.grid.spacing
        attribution = crop_at_distance(attribution, domain, spacing, task.request.crop_mm)
    facts = {
        **attribution.facts,
        "domain_voxels": len(instance.voxels),
        "estimate": instance.sampled is not None,
        **_strata(instance, task.case.domain_grid.spacing),
        "seconds": round(before + perf_counter() - started, 3),
    }
    return replace(attribution, facts=facts)


def _bookmark(task: Task, instance: Instance, cost: Plan, out: Path, run: str) -> FileBookmark:
    owner = owner_of(out, run, task.run_provenance, instance, cost.engine)
    return FileBookmark(state_file(out), owner)


def _say_what_is_done(task: Task, findings: Findings, shares: dict[int, float], out: Path) -> None:
    """Report what an earlier command did; `shares` covers the instances that are not stored."""
    if len(shares) < len(findings.explained):
        task.progress.say(
            f"resuming: {out.name} has {len(findings.explained) - len(shares)} of the maps"
        )
    for label, share in shares.items():
        if share:
            task.progress.say(f"resuming inside instance {label}: {share:.0%} of it is done")


def _strata(instance: Instance, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Describe where in the domain the rows of an estimate lie, as a fact for its map."""
    if instance.sampled is None:
        return {}
    return {"rows_by_stratum": rows_by_stratum(instance, spacing)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
