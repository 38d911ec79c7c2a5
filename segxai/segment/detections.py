"""Detections: the instances that a model finds by itself."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from segxai.errors import NothingFoundError, SegxaiError, option
from segxai.geometry import Grid
from segxai.instances import outcomes_of, smallest_voxels
from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.types import Case, Instance, InstanceCriteria


@dataclass(frozen=True)
class Detections:
    """The prediction of a model that finds instances by itself, on the clean image.

    Parameters
    ----------
    predictor : Predictor
        Its logits have one channel for each detection. A detection's identity is frozen: the index
        of a query, or the place of a box.
    names : tuple of str
        The class of each detection.
    scores : tuple of float
        The model's confidence in each detection.
    domains : tuple of ndarray of shape (voxel, axis)
        The voxels of each detection, on the output grid.
    known : tuple of str
        Names of all classes that the model knows; the adapter fills them in.

    Raises
    ------
    SegxaiError
        If there are none.
    """

    predictor: Predictor
    names: tuple[str, ...]
    scores: tuple[float, ...]
    domains: tuple[Int[np.ndarray, "_ axis"], ...]
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise SegxaiError("the model detects nothing in this image")

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for each detection: its class and its label."""
        return tuple(f"{name} {label}" for label, name in enumerate(self.names, start=1))

    def explained(self, criteria: InstanceCriteria) -> None:
        """Return None: the logits of all detections matter."""

    def class_logit(self, criteria: InstanceCriteria) -> int:
        """Raise SegxaiError: no logit scores a class at every voxel."""
        raise SegxaiError(
            f"{option('instances')} and methods that explain a whole class need a logit for each "
            "class and pixel, but this model scores each detection by itself; use a semantic "
            "segmentation model instead"
        )

    def instances(
        self, segmentation: Segmentation, criteria: InstanceCriteria, case: Case
    ) -> list[Instance]:
        """Return the detections of a class, or of all, that are large enough.

        Labels count from 1 in the model's order. What the model missed has no logit, and is none.

        Raises
        ------
        SegxaiError
            If there is none.
        """
        name = self._class_of(criteria)
        smallest = max(smallest_voxels(criteria, case.domain_grid), 1.0)
        found = [
            Instance(label, voxels, label - 1)
            for label, (own, voxels) in enumerate(zip(self.names, self.domains, strict=True), 1)
            if name in (None, own) and len(voxels) >= smallest
        ]
        if not found:
            raise NothingFoundError(self._nothing(name, criteria, case.domain_grid))
        domains = [one.voxels for one in found]
        outcomes, _ = outcomes_of(domains, case.reference, case.domain_grid, criteria)
        pairs = zip(found, outcomes, strict=True)
        return [replace(one, outcome=outcome) for one, outcome in pairs]

    def _class_of(self, criteria: InstanceCriteria) -> str | None:
        return None if criteria.class_index is None else self.known[criteria.class_index]

    def _nothing(self, name: str | None, criteria: InstanceCriteria, grid: Grid) -> str:
        seen = f"the model found: {', '.join(sorted(set(self.names)))}"
        if criteria.min_volume_mm3:
            size = grid.volume_in_words(criteria.min_volume_mm3)
            wanted = f"no {name or 'object'} of {size} or more detected"
            smaller = f"a smaller {option('min_volume_mm3')}"
            return f"{wanted}; {seen}; give {smaller}, or another {option('class_name')}"
        return (
            f"no {name or 'object'} detected; {seen}; give one of them with {option('class_name')}"
        )
