"""Findings: what the network sees in a case, which of it is explained, and at what cost."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from segxai.errors import SegxaiError
from segxai.instances import (
    balls,
    chosen,
    components,
    find_instances,
    from_labels,
    smallest_voxels,
    whole_class,
)
from segxai.methods.method import takes_rows, with_rows_for
from segxai.rows.sampling import sample_rows
from segxai.run.cost import Plan, in_words, plan
from segxai.run.prepare import Task
from segxai.segment.detections import Detections
from segxai.segment.predict import segment
from segxai.segment.segmentation import Segmentation
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
    cost : Plan
        Cost of explaining them.
    warnings : tuple of str
        What looks wrong with the objects of the class.
    """

    segmentation: Segmentation
    instances: list[Instance]
    explained: list[Instance]
    cost: Plan
    warnings: tuple[str, ...]

    def in_words(self) -> str:
        """Describe how much there is to explain and what it will cost, on one line."""
        count = f"{len(self.explained)} of {len(self.instances)} instances"
        return f"{count}; {in_words(self.cost)}"


def find(task: Task) -> Findings:
    """Predict a case, find its instances, and estimate the cost of explaining them."""
    for text in (*task.case.notes, *(f"warning: {text}" for text in task.case.warnings)):
        task.progress.say(text)
    for text in (*task.adapter.notes, *task.predictor.layout.notes()):
        task.progress.say(text)
    kept = task.criteria.class_index if task.detections is None else None
    segmentation = segment(task.predictor, task.case, task.classes, task.progress, explained=kept)
    instances = _instances(task, segmentation)
    explained = _explained(task, segmentation, instances)
    if task.request.rows is not None and not takes_rows(task.settings.aggregator):
        task.progress.say("--rows changes nothing: the map takes one backward pass and is exact")
    warnings = tuple(task.adapter.check_objects(task.case, _objects(task, instances)))
    for text in warnings:
        task.progress.say(f"warning: {text}")
    image = torch.from_numpy(task.case.image)[None].to(task.device)
    cost = plan(task.predictor, image, explained, task.method, task.settings)
    return Findings(segmentation, instances, explained, cost, warnings)


def _instances(task: Task, segmentation: Segmentation) -> list[Instance]:
    """Find all instances of the case: in what the user gives, or else in the prediction."""
    grid = task.case.domain_grid
    index = task.criteria.class_index
    if task.request.spheres:
        return balls(task.request.spheres, grid, index)
    if task.labels is not None:
        return from_labels(task.labels, index, split=task.request.split, grid=grid)
    if task.detections is not None:
        name = task.request.class_name or _named_by_index(task)
        found = task.detections.instances(name, smallest_voxels(task.criteria, grid))
    else:
        mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
        found = find_instances(mask, grid, task.criteria, task.case.reference)
    if not found:
        raise SegxaiError(_nothing_found(task, segmentation))
    return found


def _named_by_index(task: Task) -> str | None:
    """Return the name of the class that --class-index asks for."""
    return (
        None
        if task.request.class_index is None
        else task.adapter.classes[task.criteria.class_index]
    )


def _nothing_found(task: Task, segmentation: Segmentation) -> str:
    """Explain why there is no instance, and what to do."""
    if task.detections is not None:
        return _nothing_detected(task, task.detections)
    mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
    why = _too_small(task, mask) if mask.any() else _nowhere(task, segmentation)
    return f"no instance found: {why}, or a mask of your own with --instances MASK"


def _nothing_detected(task: Task, detections: Detections) -> str:
    seen = f"the model found: {', '.join(sorted(set(detections.names)))}"
    name = task.request.class_name or _named_by_index(task)
    if task.criteria.min_volume_mm3:
        size = _size(task, task.criteria.min_volume_mm3)
        wanted = f"no {name or 'object'} of {size} or more detected"
        return f"{wanted}; {seen}; give a smaller --min-volume, or another --class"
    return f"no {name or 'object'} detected; {seen}; give one of them with --class"


def _too_small(task: Task, mask: np.ndarray) -> str:
    grid, name = task.case.domain_grid, task.adapter.classes[task.criteria.class_index]
    largest, *_ = components(mask, grid, replace(task.criteria, min_volume_mm3=0.0))
    size = _size(task, len(largest) * grid.voxel_volume_mm3)
    return (
        f"the largest piece of {name} has {size}, the smallest instance is "
        f"{_size(task, task.criteria.min_volume_mm3)}; give a smaller --min-volume, another --class"
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
    return f"{largest}, {at}; this image shows {seen}; give another --class, a lower --threshold"


def _size(task: Task, volume_mm3: float) -> str:
    """Format a volume, which in a picture is an area."""
    return f"{volume_mm3:.6g} {'mm3' if len(task.case.domain_grid.shape) == 3 else 'px'}"


def _explained(task: Task, segmentation: Segmentation, instances: list[Instance]) -> list[Instance]:
    """Select the instances to explain, each with the rows to compute."""
    if task.method.scope == "class":
        mask = segmentation.mask(task.criteria.class_index, task.criteria.threshold)
        selected = [whole_class(mask, task.criteria)]
    elif task.request.instances is not None:
        selected = chosen(instances, task.request.instances)
    else:
        selected = instances
    if task.request.rows is None:
        return selected
    seed, spacing = task.request.seed, task.case.domain_grid.spacing
    sampled = [sample_rows(one, task.request.rows, seed, spacing) for one in selected]
    return [with_rows_for(task.settings.aggregator, one) for one in sampled]


def _objects(task: Task, instances: list[Instance]) -> np.ndarray:
    """Mark where objects of the class are: in the expert's reference, or else in the prediction."""
    if task.case.reference is not None:
        return task.case.reference
    objects = np.zeros(task.case.domain_grid.shape, dtype=bool)
    for instance in instances:
        objects[tuple(instance.voxels.T)] = True
    return objects
