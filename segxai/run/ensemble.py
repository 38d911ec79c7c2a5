"""Ensembles: how far folds, or mirror images of the input, agree on each instance."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from segxai.errors import SegxaiError
from segxai.instances import structural_uncertainty
from segxai.run.prepare import Task, network_of
from segxai.segment.mirrored import Mirrored
from segxai.segment.predict import segment
from segxai.segment.predictor import Predictor
from segxai.types import Instance


def uncertainty_over_members(
    task: Task, instances: Sequence[Instance]
) -> Float[np.ndarray, " instance"] | None:
    """Compute the structural uncertainty of instances over folds, otherwise over mirror images.

    Each fold takes as long as the prediction did, and all mirror images together do. None without
    either, or if the model scores no class at every voxel.
    """
    if not instances:
        return None
    try:
        index = task.prediction.class_logit(task.criteria)
    except SegxaiError:
        return None
    masks = [_mask(task, member, index) for member in _members(task)]
    if not masks:
        return None
    return structural_uncertainty(instances, masks, task.case.domain_grid, task.criteria)


def _members(task: Task) -> Iterator[Predictor]:
    """Yield a predictor for each member of the ensemble; the weights of one fold at a time."""
    network = task.predictor.network
    if task.folds:
        for fold in task.folds:
            loaded = network_of(fold, task.options.target).to(task.options.compute.device)
            yield fold.prediction(loaded, task.case, task.criteria).predictor
    elif isinstance(network, Mirrored):
        for member in network.members():
            yield task.predictor.with_network(member)


def _mask(task: Task, member: Predictor, index: int) -> Bool[np.ndarray, "*grid"]:
    """Find where a member predicts the class."""
    found = segment(member, task.case, task.prediction.classes, task.progress, explained=index)
    return found.mask(index, task.criteria.threshold)
