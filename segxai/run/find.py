"""Findings: what the network sees in a case, which of it is explained, and at what cost."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from segxai.errors import SegxaiError, collecting, option, warn
from segxai.geometry import Grid
from segxai.instances import balls, chosen, from_labels, whole_class
from segxai.load.reader import load_mask
from segxai.load.resampling import mismatch
from segxai.methods.method import takes_rows, with_rows_for
from segxai.rows.sampling import sample_rows
from segxai.run.cost import Plan, in_words, plan, together
from segxai.run.options import Balls, Mask, Predicted
from segxai.run.prepare import Run, Task
from segxai.segment.predict import segment
from segxai.segment.segmentation import Segmentation
from segxai.store.hdf5 import open_result
from segxai.store.reader import domains_of
from segxai.store.schema import domain_grid_of
from segxai.types import Instance


@dataclass(frozen=True)
class Findings:
    """What the network sees in a case, which of it is explained, and at what cost.

    Parameters
    ----------
    segmentation : Segmentation
        The prediction.
    instances : list of Instance
        All instances that were found.
    explained : list of Instance
        The chosen instances, perhaps with their rows sampled; for a class-level method, the whole
        class as label 0.
    costs : tuple of Plan
        Cost of explaining them, for each group of runs of the task.
    warnings : tuple of str
        What looks wrong with the case, the prediction or the objects of the class.
    """

    segmentation: Segmentation
    instances: list[Instance]
    explained: list[Instance]
    costs: tuple[Plan, ...]
    warnings: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Describe how much there is to explain and what it will cost, on one line."""
        count = f"{len(self.explained)} of {len(self.instances)} instances"
        return f"{count}; {in_words(together(self.costs))}"


def find(task: Task) -> Findings:
    """Predict a case, find its instances, and estimate the cost of explaining them."""
    for text in task.case.notes:
        task.progress.say(text)
    with collecting() as warnings:
        for text in task.case.warnings:
            warn(text)
        findings = _find(task)
    return replace(findings, warnings=tuple(warnings))


def _find(task: Task) -> Findings:
    for text in (*task.adapter.notes, *task.predictor.layout.notes()):
        task.progress.say(text)
    segmentation = segment(
        task.predictor,
        task.case,
        task.prediction.classes,
        task.progress,
        explained=task.prediction.explained(task.criteria),
    )
    instances = _instances(task, segmentation)
    explained = _explained(task, segmentation, instances)
    _say_what_rows_change(task)
    for text in task.adapter.check_objects(task.case, _objects(task, instances)):
        warn(text)
    costs = tuple(_cost(task, group, explained) for group in task.groups)
    return Findings(segmentation, instances, explained, costs)


def _cost(task: Task, group: tuple[Run, ...], instances: list[Instance]) -> Plan:
    """Plan the runs of a group: their rows are computed once."""
    run = next((one for one in group if takes_rows(one.context.aggregator)), group[0])
    selected = [with_rows_for(run.context.aggregator, one) for one in instances]
    image = torch.from_numpy(task.case.image)[None].to(task.device)
    cost = plan(task.predictor, image, selected, task.method, run.options.noise, run.context)
    return replace(cost, disk_bytes=len(group) * cost.disk_bytes)


def _say_what_rows_change(task: Task) -> None:
    exact = [one for one in task.runs if not takes_rows(one.context.aggregator)]
    if task.options.method.rows is not None and exact:
        task.progress.say(
            f"{option('rows')} changes nothing: the map takes one backward pass and is exact"
        )


def _instances(task: Task, segmentation: Segmentation) -> list[Instance]:
    """Find all instances of the case: in what the user gives, or else in the prediction."""
    source = task.options.target.instances
    if isinstance(source, Predicted):
        return task.prediction.instances(segmentation, task.criteria, task.case)
    grid, index = task.case.domain_grid, task.prediction.class_logit(task.criteria)
    if isinstance(source, Balls):
        return balls(source.balls, grid, index)
    if isinstance(source, Mask):
        labels = load_mask(source.path, task.case)
        return from_labels(labels, index, split=source.split, grid=grid)
    return instances_of_result(source.path, grid, index)


def instances_of_result(path: Path, grid: Grid, class_index: int) -> list[Instance]:
    """Read the domains of another result, to explain them on this model.

    Raises
    ------
    SegxaiError
        If they lie on another grid.
    """
    with open_result(path) as tree:
        problem = mismatch("this case", grid, path.name, domain_grid_of(tree))
        if problem:
            raise SegxaiError(
                f"{option('instances', path)}: {problem}; give a result of this image"
            )
        return [Instance(label, voxels, class_index) for label, voxels in domains_of(tree).items()]


def _explained(task: Task, segmentation: Segmentation, instances: list[Instance]) -> list[Instance]:
    """Select the instances to explain, each with the rows to compute."""
    if task.method.scope == "class":
        index = task.prediction.class_logit(task.criteria)
        mask = segmentation.mask(index, task.criteria.threshold)
        selected = [whole_class(mask, task.criteria)]
    elif task.options.target.labels is not None:
        selected = chosen(instances, task.options.target.labels)
    else:
        selected = instances
    asked, spacing = task.options.method, task.case.domain_grid.spacing
    if asked.rows is None:
        return selected
    return [sample_rows(one, asked.rows, asked.seed, spacing) for one in selected]


def _objects(task: Task, instances: list[Instance]) -> np.ndarray:
    """Mark where objects of the class are: in the expert's reference, or else in the prediction."""
    if task.case.reference is not None:
        return task.case.reference
    objects = np.zeros(task.case.domain_grid.shape, dtype=bool)
    for instance in instances:
        objects[tuple(instance.voxels.T)] = True
    return objects
