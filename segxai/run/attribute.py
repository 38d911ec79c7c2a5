"""Attributing: the maps of each instance are computed, and stored once they are done."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from segxai.errors import collecting
from segxai.methods.cropping import crop_at_distance, on_map
from segxai.methods.method import Context, with_rows_for
from segxai.methods.resume_state import NoBookmark
from segxai.rows.sampling import rows_by_stratum
from segxai.run.cost import Plan
from segxai.run.prepare import Task
from segxai.run.resume import FileBookmark, Meter, owner_of
from segxai.run.runs import Group, Run, together_for
from segxai.store import hdf5
from segxai.store.atomic_file import state_file
from segxai.store.writer import MapWriter
from segxai.types import Attribution, Instance


@dataclass(frozen=True)
class Place:
    """Where the maps of a group of runs go: the result file, and each run's name in it."""

    out: Path
    names: tuple[str, ...]
    writer: MapWriter


def attribute_each(
    task: Task, group: Group, instances: list[Instance], cost: Plan, place: Place
) -> None:
    """Attribute every instance that lacks a map in a run of the group, and store each once done."""
    finished = {name: hdf5.finished(place.out, name) for name in place.names}
    stored = set.intersection(*finished.values())
    bookmarks = {one.label: _bookmark(group, one, cost, place) for one in instances}
    for label in stored & bookmarks.keys():
        bookmarks[label].remove()  # killed after its map was stored, before its state was removed
    shares = {label: one.meter.done for label, one in bookmarks.items() if label not in stored}
    # The unfinished instance comes first: the next one to save its state would overwrite it.
    remaining = sorted(
        (one for one in instances if one.label in shares), key=lambda one: -shares[one.label]
    )
    _say_what_is_done(task, len(instances), shares, place.out)
    left = sum((1 - share) * cost.work[label] for label, share in shares.items())
    task.progress.begin("explain", cost.seconds, cost.seconds - left)
    for instance in remaining:
        bookmark = _bookmark(group, instance, cost, place)
        maps = attribute(task, group, instance, cost, bookmark)
        for name, one in zip(place.names, maps, strict=True):
            if instance.label not in finished[name]:
                place.writer.add(name, one, instance)
        bookmark.remove()


def attribute(
    task: Task, group: Group, instance: Instance, cost: Plan, bookmark: FileBookmark | None = None
) -> tuple[Attribution, ...]:
    """Compute the maps of one instance, one for each run of a group.

    Resumes from the instance's bookmark if it has one.
    """
    started, work = perf_counter(), cost.work[instance.label]
    meter, before = (bookmark.meter, bookmark.seconds) if bookmark else (Meter(), 0.0)
    context = replace(
        group[0].context,
        compute=replace(group[0].context.compute, engine=cost.engine, batch=cost.batch),
        tick=lambda share: task.progress.advance(meter.count(share) * work),
        bookmark=bookmark or NoBookmark(),
        instances=task.instances,
    )
    with collecting() as warnings:
        maps = _maps(task, group, instance, context)
    task.progress.advance(meter.complete() * work)
    facts: dict[str, Any] = {"warnings": warnings} if warnings else {}
    facts["seconds"] = round(before + perf_counter() - started, 3)
    pairs = zip(group, maps, strict=True)
    return tuple(_with_facts(task, run, one, instance, facts) for run, one in pairs)


def _maps(
    task: Task, group: Group, instance: Instance, context: Context
) -> tuple[Attribution, ...]:
    """Compute the maps of an instance by the method, with rows that are computed once."""
    image = task.image
    if len(group) == 1:
        instance = with_rows_for(context.aggregator, instance)
        options = group[0].options
        return (task.method.attribute(task.predictor, image, instance, options, context),)
    if task.method.together is None:
        raise ValueError(f"method {task.method.name!r} computes one run at a time")
    together = together_for(group, task.prediction)
    options = task.options.method
    return task.method.together(task.predictor, image, instance, together, options, context)


def _with_facts(
    task: Task, run: Run, attribution: Attribution, instance: Instance, more: Mapping[str, Any]
) -> Attribution:
    """Crop a map where that is asked for, and add what is known of it."""
    instance = with_rows_for(run.context.aggregator, instance)
    attribution = _cropped(task, attribution, instance)
    facts = {
        **attribution.facts,
        "domain_voxels": len(instance.voxels),
        "estimate": instance.sampled is not None,
        **_strata(instance, task.case.domain_grid.spacing),
        **more,
    }
    return replace(attribution, facts=facts)


def _cropped(task: Task, attribution: Attribution, instance: Instance) -> Attribution:
    """Crop a map at the distance that is asked for."""
    if task.options.crop_mm is None:
        return attribution
    domain = on_map(instance, task.case, attribution.box)
    return crop_at_distance(attribution, domain, task.case.grid.spacing, task.options.crop_mm)


def _bookmark(group: Group, instance: Instance, cost: Plan, place: Place) -> FileBookmark:
    """Open the bookmark of an instance in a group of runs."""
    instance = with_rows_for(group[0].context.aggregator, instance)
    provenance = [run.provenance for run in group]
    owner = owner_of(place.out, place.names, provenance, instance, cost.engine)
    return FileBookmark(state_file(place.out), owner)


def _say_what_is_done(task: Task, count: int, shares: dict[int, float], out: Path) -> None:
    """Report what an earlier command did; `shares` covers the instances that are not stored."""
    if len(shares) < count:
        task.progress.say(f"resuming: {out.name} has {count - len(shares)} of the maps")
    for label, share in shares.items():
        if share:
            task.progress.say(f"resuming inside instance {label}: {share:.0%} of it is done")


def _strata(instance: Instance, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Describe where in the domain the rows of an estimate lie, as a fact for its map."""
    if instance.sampled is None:
        return {}
    return {"rows_by_stratum": rows_by_stratum(instance, spacing)}
