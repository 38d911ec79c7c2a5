"""The pipeline: segment a case, find its instances, attribute each and store the maps."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from segxai.errors import NothingFoundError, SegxaiError, collecting, warn
from segxai.instances import chosen, matchings, whole_class
from segxai.matching import Matching
from segxai.rows.sampling import sample_rows
from segxai.run.advice import in_words, quicker
from segxai.run.attribute import Place, attribute_each
from segxai.run.controls import place_controls
from segxai.run.cost import Plan, together
from segxai.run.device import peak_memory_bytes
from segxai.run.ensemble import uncertainty_over_members
from segxai.run.find import find, objects_in
from segxai.run.options import Target
from segxai.run.prepare import Task
from segxai.run.runs import plan_group
from segxai.segment.predict import segment
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.atomic_file import journal_file, state_file
from segxai.store.runs import is_complete, run_names
from segxai.store.size import result_bytes
from segxai.store.writer import adding_maps, recover
from segxai.types import Instance


def explain_case(
    task: Task,
    out: Path,
    *,
    append: bool = False,
    overwrite: bool = False,
    may_be_empty: bool = False,
) -> tuple[str, ...]:
    """Segment a case, find its instances, attribute each, and store each map once it is done.

    An interrupted task resumes where it stopped, even inside an instance, and ends with the same
    values.

    Parameters
    ----------
    out : Path
        The result file.
    append, overwrite : bool
        Whether another run may be added to an existing file, or the file may be replaced.
    may_be_empty : bool
        Whether a case in which nothing is found gets a result without instances.

    Returns
    -------
    tuple of str
        The names of the task's runs in the file.

    Raises
    ------
    SegxaiError
        If there is nothing to explain, or `out` belongs to another task.
    """
    names = choose_runs(task, out, append=append, overwrite=overwrite)
    if out.exists() and not overwrite:
        recover(out)
    wanted = (0,) if task.method.scope == "class" else _labels(task.options.target)
    if not overwrite and all(is_complete(out, name, wanted) for name in names):
        task.progress.say(f"nothing left to do: all maps are in {out.name}")
        return names
    findings = survey(task, may_be_empty=may_be_empty)
    task.progress.say(findings.in_words())
    task = replace(task, instances=tuple(findings.instances))
    if overwrite or not out.exists():
        matches = {one.rule: one.counts for one in findings.matchings}
        created = {**task.case_provenance, "matches": matches, "created": _now()}
        found = (findings.segmentation, findings.instances)
        uncertainty = uncertainty_over_members(task, findings.instances)
        hdf5.create(out, task.case, *found, created, findings.predicted, uncertainty)
        for beside in (state_file(out), journal_file(out)):  # of the file that was here before
            beside.unlink(missing_ok=True)
    for name, run in zip(names, task.runs, strict=True):
        texts = dict.fromkeys((*task.warnings, *findings.warnings))
        seen = {"warnings": list(texts), "started": _now()}
        hdf5.start_run(out, name, {**run.provenance, **seen})
    name_of = dict(zip(map(id, task.runs), names, strict=True))
    if not findings.explained:
        return names
    with adding_maps(out, task.case) as writer:
        for group, cost in zip(task.groups, findings.costs, strict=True):
            place = Place(out, tuple(name_of[id(run)] for run in group), writer)
            attribute_each(task, group, findings.explained, cost, place)
    return names


def choose_runs(
    task: Task, out: Path, *, append: bool = False, overwrite: bool = False
) -> tuple[str, ...]:
    """Choose the runs that the task starts or resumes in a result file, and return their names.

    Raises
    ------
    SegxaiError
        If the file cannot be written, or belongs to another task.
    """
    hdf5.check_writable(out)
    target = None if overwrite else out
    wanted = [run.provenance for run in task.runs]
    return run_names(target, task.case_provenance, wanted, append=append)


@dataclass(frozen=True)
class Findings:
    """What the network sees in a case, which of it is explained, and at what cost.

    Parameters
    ----------
    segmentation : Segmentation
        The prediction.
    instances : list of Instance
        All instances that were found, and the controls.
    explained : list of Instance
        The chosen instances, perhaps with their rows sampled; for a class-level method, the whole
        class as label 0.
    costs : tuple of Plan
        Cost of explaining them, for each group of runs of the task.
    cost : Plan
        Cost of all runs together: on disk the whole result, and in memory, on the CPU, the whole
        process.
    matchings : tuple of Matching
        The predicted instances against the reference, by each rule; empty without a reference.
    predicted : ndarray of shape (*grid), optional
        Where the class is predicted, small components included; None if the model scores no class
        at every voxel.
    warnings : tuple of str
        What looks wrong with the case, the prediction or the objects of the class.
    """

    segmentation: Segmentation
    instances: list[Instance]
    explained: list[Instance]
    costs: tuple[Plan, ...]
    cost: Plan
    matchings: tuple[Matching, ...] = ()
    predicted: Bool[np.ndarray, "*grid"] | None = None
    warnings: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Describe how much there is to explain and what it will cost, on one line."""
        if not self.explained:
            return "nothing is found, so nothing is explained"
        count = f"{len(self.explained)} of {len(self.instances)} instances"
        return f"{count}; {in_words(self.cost)}"


def survey(task: Task, *, may_be_empty: bool = False) -> Findings:
    """Segment a case, find its instances, and plan the cost of explaining them."""
    before = peak_memory_bytes()
    for text in (*task.case.notes, *task.notes):
        task.progress.say(text)
    with collecting() as warnings:
        for text in task.case.warnings:
            warn(text)
        segmentation = _segment(task)
        instances = _found(task, segmentation, may_be_empty=may_be_empty)
        matched = matchings(instances, task.case.reference, task.case.domain_grid, task.criteria)
        for one in matched:
            task.progress.say(f"against the reference, {one.in_words()}")
        for text in task.check_objects(task.case, objects_in(task.case, instances)):
            warn(text)
        predicted = _predicted(task, segmentation)
        instances = [*instances, *_controls(task, instances, predicted)]
        explained = _explained(task, segmentation, instances)
        costs = [
            plan_group(group, task.predictor, task.image, explained, task.method)
            for group in task.groups
        ]
        for group, cost in zip(task.groups, costs, strict=True):
            run = group[0]
            if text := quicker(cost, explained, task.method, run.options, run.context):
                task.progress.say(text)
    cost = together(costs)
    cost = replace(
        cost,
        disk_bytes=cost.disk_bytes + result_bytes(task.case, segmentation, instances),
        memory_bytes=_memory_bytes(task, cost, before),
    )
    return Findings(
        segmentation, instances, explained, tuple(costs), cost, matched, predicted, tuple(warnings)
    )


def _memory_bytes(task: Task, cost: Plan, before: int) -> int:
    """Estimate the memory of the process at its peak; on a GPU, that of the GPU for one instance.

    It is at least what the survey took, which segments the case and explains part of an instance.
    """
    if task.options.compute.device != "cpu":
        return cost.memory_bytes
    return max(before + cost.memory_bytes, peak_memory_bytes())


def _found(task: Task, segmentation: Segmentation, *, may_be_empty: bool) -> list[Instance]:
    source = task.options.target.instances
    try:
        return find(task.prediction, segmentation, task.case, task.criteria, source)
    except NothingFoundError:
        if not may_be_empty:
            raise
        return []


def _segment(task: Task) -> Segmentation:
    classes, kept = task.prediction.classes, task.prediction.explained(task.criteria)
    return segment(task.predictor, task.case, classes, task.progress, explained=kept)


def _predicted(task: Task, segmentation: Segmentation) -> Bool[np.ndarray, "*grid"] | None:
    """Find where the class is predicted; None if the model scores no class at every voxel."""
    try:
        index = task.prediction.class_logit(task.criteria)
    except SegxaiError:
        return None
    return segmentation.mask(index, task.criteria.threshold)


def _controls(
    task: Task, instances: list[Instance], predicted: Bool[np.ndarray, "*grid"] | None
) -> list[Instance]:
    """Place the controls of all instances, whichever are explained: a later command finds them."""
    kinds = task.options.target.controls
    if not kinds:
        return []
    index, seed = task.prediction.class_logit(task.criteria), task.options.method.seed
    return place_controls(kinds, task.case, instances, predicted, class_index=index, seed=seed)


def _labels(target: Target) -> tuple[int, ...] | None:
    """Return the labels that are asked for; None where only a survey can tell all of them."""
    return None if target.controls else target.labels


def _explained(task: Task, segmentation: Segmentation, instances: list[Instance]) -> list[Instance]:
    """Select the instances to explain, each with the rows to compute."""
    labels, asked = task.options.target.labels, task.options.method
    if task.method.scope == "class":
        index = task.prediction.class_logit(task.criteria)
        mask = segmentation.mask(index, task.criteria.threshold)
        instances = [whole_class(mask, task.criteria)]
    elif labels is not None:
        found = {one.label for one in chosen(instances, labels)}
        instances = [
            one
            for one in instances
            if one.label in found or (one.outcome == "TN" and one.source in (0, *labels))
        ]
    if asked.rows is None:
        return instances
    spacing = task.case.domain_grid.spacing
    return [sample_rows(one, asked.rows, asked.seed, spacing) for one in instances]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
