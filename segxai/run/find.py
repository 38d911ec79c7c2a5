"""Findings: what the network sees in a case, which of it is explained, and at what cost."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from segxai.errors import SegxaiError, collecting, option, warn
from segxai.geometry import Grid
from segxai.instances import (
    balls,
    chosen,
    components,
    find_instances,
    from_labels,
    smallest_voxels,
    whole_class,
)
from segxai.load.reader import load_mask
from segxai.load.resampling import mismatch
from segxai.methods.method import takes_rows, with_rows_for
from segxai.rows.sampling import sample_rows
from segxai.run.cost import Plan, in_words, plan, together
from segxai.run.options import Balls, Mask, Result
from segxai.run.prepare import Run, Task
from segxai.segment.detections import Detections
from segxai.segment.predict import segment
from segxai.segment.segmentation import Segmentation
from segxai.store.hdf5 import open_result
from segxai.store.reader import domains_of
from segxai.store.schema import domain_grid_of
from segxai.types import Instance

MOST_NAMED = 8  # classes in a message


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
    kept = task.criteria.class_index if task.detections is None else None
    segmentation = segment(task.predictor, task.case, task.classes, task.progress, explained=kept)
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
    grid, index, source = (
        task.case.domain_grid,
        task.criteria.class_index,
        task.options.target.instances,
    )
    if isinstance(source, Balls):
        return balls(source.balls, grid, index)
    if isinstance(source, Mask):
        labels = load_mask(source.path, task.case)
        return from_labels(labels, index, split=source.split, grid=grid)
    if isinstance(source, Result):
        return instances_of_result(source.path, grid, index)
    if task.detections is not None:
        found = task.detections.instances(_class_asked(task), smallest_voxels(task.criteria, grid))
    else:
        mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
        found = find_instances(mask, grid, task.criteria, task.case.reference)
    if not found:
        raise SegxaiError(_nothing_found(task, segmentation))
    return found


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


def _class_asked(task: Task) -> str | None:
    """Return the class that the user names, by name or number; None for all detections."""
    target = task.options.target
    if target.class_index is None:
        return target.class_name
    return task.adapter.classes[task.criteria.class_index]


def _nothing_found(task: Task, segmentation: Segmentation) -> str:
    """Explain why there is no instance, and what to do."""
    if task.detections is not None:
        return _nothing_detected(task, task.detections)
    mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
    why = _too_small(task, mask) if mask.any() else _nowhere(task, segmentation)
    return f"no instance found: {why}, or a mask of your own with {option('instances', 'MASK')}"


def _nothing_detected(task: Task, detections: Detections) -> str:
    seen = f"the model found: {', '.join(sorted(set(detections.names)))}"
    name = _class_asked(task)
    if task.criteria.min_volume_mm3:
        size = _size(task, task.criteria.min_volume_mm3)
        wanted = f"no {name or 'object'} of {size} or more detected"
        smaller = f"a smaller {option('min_volume_mm3')}"
        return f"{wanted}; {seen}; give {smaller}, or another {option('class_name')}"
    return f"no {name or 'object'} detected; {seen}; give one of them with {option('class_name')}"


def _too_small(task: Task, mask: np.ndarray) -> str:
    grid, name = task.case.domain_grid, task.adapter.classes[task.criteria.class_index]
    largest, *_ = components(mask, grid, replace(task.criteria, min_volume_mm3=0.0))
    size = _size(task, len(largest) * grid.voxel_volume_mm3)
    return (
        f"the largest piece of {name} has {size}, the smallest instance is "
        f"{_size(task, task.criteria.min_volume_mm3)}; give a smaller {option('min_volume_mm3')}, "
        f"another {option('class_name')}"
    )


def _nowhere(task: Task, segmentation: Segmentation) -> str:
    index, threshold = task.criteria.class_index, task.criteria.threshold
    name, probability = task.adapter.classes[index], segmentation.probability(index)
    largest = f"the largest probability of {name} is {probability.max():.3g}"
    at = "lower than others everywhere" if threshold is None else f"threshold {threshold:g}"
    shares = np.bincount(segmentation.largest.ravel(), minlength=len(task.classes))
    order = np.argsort(-shares, kind="stable")[:MOST_NAMED]
    parts = [(task.classes[n], shares[n] / shares.sum()) for n in order if shares[n]]
    seen = ", ".join(f"{name} {share:.0%}" for name, share in parts)
    what = f"another {option('class_name')}, a lower {option('threshold')}"
    return f"{largest}, {at}; this image shows {seen}; give {what}"


def _size(task: Task, volume_mm3: float) -> str:
    """Format a volume, which in a picture is an area."""
    return f"{volume_mm3:.6g} {'mm3' if len(task.case.domain_grid.shape) == 3 else 'px'}"


def _explained(task: Task, segmentation: Segmentation, instances: list[Instance]) -> list[Instance]:
    """Select the instances to explain, each with the rows to compute."""
    if task.method.scope == "class":
        mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
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
