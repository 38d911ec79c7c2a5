"""Explain every instance of a case: the whole story on one screen."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from segxai import storage
from segxai.bookmarks import FileBookmark, Meter
from segxai.cropping import crop_at_distance, on_map
from segxai.drafts import unfinished
from segxai.errors import SegxaiError
from segxai.instances import (
    chosen,
    find_instances,
    from_labels,
    smallest_voxels,
    whole_class,
)
from segxai.planning import Plan, in_words, plan
from segxai.protocols import NoBookmark
from segxai.resuming import owner_of, run_name
from segxai.sampling import rows_by_stratum, sample_rows, takes_rows, with_rows_for
from segxai.segmentation import segment
from segxai.spheres import balls
from segxai.task import Task
from segxai.types import Attribution, Instance, Segmentation

MOST_NAMED = 8  # classes in a message


@dataclass(frozen=True)
class Findings:
    """What the network sees in a case, which of it is explained, and at which cost.

    Parameters
    ----------
    segmentation : Segmentation
        The prediction.
    instances : list of Instance
        All that were found.
    explained : list of Instance
        Those that are explained: chosen, perhaps with their rows sampled; the whole class as
        label 0 for a class-level method.
    cost : Plan
        Of explaining them.
    warnings : tuple of str
        What looks wrong with the objects of the class.
    """

    segmentation: Segmentation
    instances: list[Instance]
    explained: list[Instance]
    cost: Plan
    warnings: tuple[str, ...]

    def in_words(self) -> str:
        """How much there is to explain, and what it will cost, on one line."""
        count = f"{len(self.explained)} of {len(self.instances)} instances"
        return f"{count}; {in_words(self.cost)}"


def explain_case(task: Task, out: Path, *, append: bool = False, overwrite: bool = False) -> str:
    """Segment a case, find its instances, attribute each, and store the maps as they come.

    A task that was interrupted goes on where it stopped, also inside an instance, and ends with
    the same values.

    Parameters
    ----------
    out : Path
        The result file.
    append, overwrite : bool
        Whether another run may be added to an existing file, or the file be replaced.

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
    findings = find(task)
    task.progress.say(findings.in_words())
    if overwrite or not out.exists():
        created = {**task.case_provenance, "created": _now()}
        storage.create(out, task.case, findings.segmentation, findings.instances, created)
        unfinished(out).unlink(missing_ok=True)  # of the file that was here before
    seen = {"warnings": list(findings.warnings), "started": _now()}
    storage.start_run(out, run, {**task.run_provenance, **seen})
    attribute_all(task, findings, out, run)
    return run


def choose_run(task: Task, out: Path, *, append: bool = False, overwrite: bool = False) -> str:
    """The name of the run that the task makes or goes on with in a result file.

    Raises
    ------
    SegxaiError
        If the file cannot be written, or belongs to another task.
    """
    storage.check_writable(out)
    target = None if overwrite else out
    return run_name(target, task.case_provenance, task.run_provenance, append=append)


def find(task: Task) -> Findings:
    """The prediction, its instances, and what it will cost to explain them."""
    for text in (*task.case.notes, *(f"warning: {text}" for text in task.case.warnings)):
        task.progress.say(text)
    for text in (*task.adapter.notes, *task.predictor.layout.notes()):
        task.progress.say(text)
    segmentation = segment(task.predictor, task.case, task.classes, task.progress)
    instances = _instances(task, segmentation)
    explained = _explained(task, segmentation, instances)
    if task.request.rows is not None and not takes_rows(task.settings.aggregator):
        task.progress.say("--rows changes nothing: this takes one backward pass, and is exact")
    warnings = tuple(task.adapter.check_objects(task.case, _objects(task, instances)))
    for text in warnings:
        task.progress.say(f"warning: {text}")
    image = torch.from_numpy(task.case.image)[None].to(task.device)
    cost = plan(task.predictor, image, explained, task.method, task.settings)
    return Findings(segmentation, instances, explained, cost, warnings)


def attribute_all(task: Task, findings: Findings, out: Path, run: str) -> None:
    """Attribute every instance that the run does not have yet, and store each at once."""
    cost, stored = findings.cost, storage.finished(out, run)
    bookmarks = {one.label: _bookmark(task, one, cost, out, run) for one in findings.explained}
    for label in stored & bookmarks.keys():
        bookmarks[label].remove()  # killed when its map was stored, but its state not yet removed
    shares = {label: one.meter.done for label, one in bookmarks.items() if label not in stored}
    # The one in work comes first: the next to be kept takes the place of its state.
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
        storage.add(out, run, attribution, instance, task.case)
        bookmark.remove()


def attribute(
    task: Task, instance: Instance, cost: Plan, bookmark: FileBookmark | None = None
) -> Attribution:
    """The map of one instance; goes on from its bookmark, if it has one."""
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
    return FileBookmark(unfinished(out), owner)


def _say_what_is_done(task: Task, findings: Findings, shares: dict[int, float], out: Path) -> None:
    """What an earlier command did; `shares` are those of the instances that are not stored."""
    if len(shares) < len(findings.explained):
        task.progress.say(f"going on: {len(findings.explained) - len(shares)} are in {out.name}")
    for label, share in shares.items():
        if share:
            task.progress.say(f"going on inside instance {label}: {share:.0%} of it is done")


def _instances(task: Task, segmentation: Segmentation) -> list[Instance]:
    """All instances of the case: from the user's mask, or from the prediction."""
    grid = task.case.domain_grid
    index = task.rule.class_index
    if task.request.spheres:
        return balls(task.request.spheres, grid, index)
    if task.labels is not None:
        return from_labels(task.labels, index, split=task.request.split, grid=grid)
    if task.detections is not None:
        name = task.request.class_name or _named_by_index(task)
        found = task.detections.instances(name, smallest_voxels(task.rule, grid))
    else:
        mask = segmentation.mask(task.rule.class_index, task.rule.threshold)
        found = find_instances(mask, grid, task.rule, task.case.reference)
    if not found:
        raise SegxaiError(_nothing_found(task, segmentation))
    return found


def _named_by_index(task: Task) -> str | None:
    """The class that --class-index asks for, by name."""
    return None if task.request.class_index is None else task.adapter.classes[task.rule.class_index]


def _nothing_found(task: Task, segmentation: Segmentation) -> str:
    """Why there is no instance, and what to do."""
    name, rule = task.adapter.classes[task.rule.class_index], task.rule
    least = f"{rule.min_volume_mm3:g} {'mm3' if len(task.case.domain_grid.shape) == 3 else 'px'}"
    if task.detections is not None:
        seen = ", ".join(sorted(set(task.detections.names)))
        if not rule.min_volume_mm3:
            return f"no {name} detected; the model found: {seen}; give one of them with --class"
        wanted = name if task.request.class_name or _named_by_index(task) else "object"
        return (
            f"no {wanted} of {least} or more detected; the model found: {seen}; give a smaller "
            "--min-volume, or another --class"
        )
    probability = segmentation.probability()
    largest = f"the largest probability of {name} is {probability[rule.class_index].max():.3g}"
    at = "it is nowhere the largest" if rule.threshold is None else f"threshold {rule.threshold:g}"
    shares = np.bincount(probability.argmax(axis=0).ravel(), minlength=len(task.classes))
    order = np.argsort(-shares, kind="stable")[:MOST_NAMED]
    parts = [(task.classes[n], shares[n] / shares.sum()) for n in order if shares[n]]
    seen = ", ".join(f"{name} {share:.0%}" for name, share in parts)
    return (
        f"no instance found: {largest}, {at}, the smallest instance {least}; "
        f"this image shows {seen}; give another --class, a lower --threshold or --min-volume, or a "
        "mask of your own with --instances MASK"
    )


def _explained(task: Task, segmentation: Segmentation, instances: list[Instance]) -> list[Instance]:
    """The instances that are explained, each with the rows to compute."""
    if task.method.scope == "class":
        mask = segmentation.mask(task.rule.class_index, task.rule.threshold)
        selected = [whole_class(mask, task.rule)]
    elif task.request.instances is not None:
        selected = chosen(instances, task.request.instances)
    else:
        selected = instances
    if task.request.rows is None:
        return selected
    seed, spacing = task.request.seed, task.case.domain_grid.spacing
    sampled = [sample_rows(one, task.request.rows, seed, spacing) for one in selected]
    return [with_rows_for(task.settings.aggregator, one) for one in sampled]


def _strata(instance: Instance, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Where in the domain the rows of an estimate lie, as a fact of its map."""
    if instance.sampled is None:
        return {}
    return {"rows_by_stratum": rows_by_stratum(instance, spacing)}


def _objects(task: Task, instances: list[Instance]) -> np.ndarray:
    """Where objects of the class are: as the expert drew them, or as the network did."""
    if task.case.reference is not None:
        return task.case.reference
    objects = np.zeros(task.case.domain_grid.shape, dtype=bool)
    for instance in instances:
        objects[tuple(instance.voxels.T)] = True
    return objects


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
