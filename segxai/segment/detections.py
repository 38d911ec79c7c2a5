"""Detections: the instances that a model finds by itself."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from segxai.segment.predictor import Predictor
from segxai.types import Instance


@dataclass(frozen=True)
class Detections:
    """The instances that a model itself found on the clean image.

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
    """

    predictor: Predictor
    names: tuple[str, ...]
    scores: tuple[float, ...]
    domains: tuple[Int[np.ndarray, "_ axis"], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for each detection: its class and its label."""
        return tuple(f"{name} {label}" for label, name in enumerate(self.names, start=1))

    def instances(self, class_name: str | None = None, smallest: float = 1.0) -> list[Instance]:
        """Return the detections of one class, or of all, that have at least `smallest` voxels.

        Labels count from 1 in the model's order.
        """
        return [
            Instance(label, voxels, class_index=label - 1)
            for label, (name, voxels) in enumerate(zip(self.names, self.domains, strict=True), 1)
            if class_name in (None, name) and len(voxels) >= max(smallest, 1.0)
        ]
