"""Semantic prediction: a logit for each class at every voxel, and the instances in it."""

from dataclasses import dataclass, replace

import numpy as np

from segxai.errors import NothingFoundError, option
from segxai.geometry import Grid
from segxai.instances import components, find_instances
from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.types import Case, Instance, InstanceCriteria

MOST_NAMED = 8  # classes in a message


@dataclass(frozen=True)
class Semantic:
    """The prediction of a model that scores each class at every voxel.

    Parameters
    ----------
    predictor : Predictor
        Its logits have one channel for each class.
    classes : tuple of str
        Their names.
    """

    predictor: Predictor
    classes: tuple[str, ...]

    def explained(self, criteria: InstanceCriteria) -> int:
        """Return the only logit that matters: that of the class."""
        return criteria.logit

    def class_logit(self, criteria: InstanceCriteria) -> int:
        """Return the logit that scores the class at every voxel."""
        return criteria.logit

    def instances(
        self, segmentation: Segmentation, criteria: InstanceCriteria, case: Case
    ) -> list[Instance]:
        """Find the connected components of the class; see `find_instances`.

        Raises
        ------
        SegxaiError
            If there is none.
        """
        mask = segmentation.mask(criteria.logit, criteria.threshold)
        found = find_instances(mask, case.domain_grid, criteria, case.reference)
        if found:
            return found
        why = (
            self._too_small(mask, criteria, case.domain_grid)
            if mask.any()
            else self._nowhere(segmentation, criteria)
        )
        raise NothingFoundError(
            f"no instance found: {why}, or a mask of your own with {option('instances', 'MASK')}"
        )

    def _too_small(self, mask: np.ndarray, criteria: InstanceCriteria, grid: Grid) -> str:
        largest, *_ = components(mask, grid, replace(criteria, min_volume_mm3=0.0))
        size = grid.volume_in_words(len(largest) * grid.voxel_volume_mm3)
        return (
            f"the largest piece of {self.classes[criteria.logit]} has {size}, the smallest "
            f"instance is {grid.volume_in_words(criteria.min_volume_mm3)}; give a smaller "
            f"{option('min_volume_mm3')}, another {option('class_name')}"
        )

    def _nowhere(self, segmentation: Segmentation, criteria: InstanceCriteria) -> str:
        name, threshold = self.classes[criteria.logit], criteria.threshold
        probability = segmentation.probability(criteria.logit)
        largest = f"the largest probability of {name} is {probability.max():.3g}"
        at = "lower than others everywhere" if threshold is None else f"threshold {threshold:g}"
        shares = np.bincount(segmentation.largest.ravel(), minlength=len(self.classes))
        order = np.argsort(-shares, kind="stable")[:MOST_NAMED]
        parts = [(self.classes[n], shares[n] / shares.sum()) for n in order if shares[n]]
        seen = ", ".join(f"{name} {share:.0%}" for name, share in parts)
        what = f"another {option('class_name')}, a lower {option('threshold')}"
        return f"{largest}, {at}; this image shows {seen}; give {what}"
