"""Mirrors: how far the mirror images of a test-time augmentation agree on each instance."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from segxai.errors import SegxaiError
from segxai.instances import structural_uncertainty
from segxai.run.prepare import Task
from segxai.segment.mirrored import Mirrored
from segxai.segment.predict import segment
from segxai.types import Instance


def uncertainty_over_mirrors(
    task: Task, instances: Sequence[Instance]
) -> Float[np.ndarray, " instance"] | None:
    """Compute the structural uncertainty of instances over the mirror images of the input.

    This takes as long as the prediction did. None without mirror images, or if the model scores no
    class at every voxel.
    """
    network = task.predictor.network
    if not isinstance(network, Mirrored) or not instances:
        return None
    try:
        index = task.prediction.class_logit(task.criteria)
    except SegxaiError:
        return None
    masks = _masks(task, network, index)
    return structural_uncertainty(instances, masks, task.case.domain_grid, task.criteria)


def _masks(task: Task, network: Mirrored, index: int) -> Iterator[Bool[np.ndarray, "*grid"]]:
    """Yield where the class is predicted from each mirror image alone."""
    for member in network.members():
        predictor = task.predictor.with_network(member)
        found = segment(
            predictor, task.case, task.prediction.classes, task.progress, explained=index
        )
        yield found.mask(index, task.criteria.threshold)
