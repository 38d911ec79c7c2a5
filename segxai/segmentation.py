"""Segment: what a predictor makes of a case, looked at slab by slab."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from segxai.errors import SegxaiError
from segxai.evaluating import exact_arithmetic, frozen
from segxai.predictor import Predictor
from segxai.protocols import Progress
from segxai.types import Activation, Case

MOST_KEPT = 2**26  # logits of all classes; 256 MiB as float32


@dataclass(frozen=True)
class Segmentation:
    """What a network predicts on the whole grid of instances, from the clean image.

    Parameters
    ----------
    logits : ndarray of shape (kept, *grid)
        Of the classes that are kept: all of them, or those that matter where all are too many.
    classes : tuple of str
        Names of all classes.
    activation : {"softmax", "sigmoid"}
        Makes probabilities of the logits.
    kept : tuple of int
        Which classes `logits` has.
    largest : ndarray of shape (*grid)
        The class whose logit is the largest.
    peak, total : ndarray of shape (*grid)
        The largest logit, and the sum of exp(logit - peak) over all classes.
    """

    logits: Float[np.ndarray, "*kept_and_grid"]
    classes: tuple[str, ...]
    activation: Activation
    kept: tuple[int, ...]
    largest: Int[np.ndarray, "*grid"]
    peak: Float[np.ndarray, "*grid"]
    total: Float[np.ndarray, "*grid"]

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, "class *grid"],
        classes: tuple[str, ...],
        activation: Activation = "softmax",
        kept: tuple[int, ...] | None = None,
    ) -> "Segmentation":
        """From the logits of all classes; of them all are kept, if not told otherwise."""
        kept = tuple(range(len(logits))) if kept is None else kept
        peak = logits.max(axis=0)
        total = np.exp(logits - peak).sum(axis=0)
        return cls(
            logits[list(kept)], classes, activation, kept, logits.argmax(axis=0), peak, total
        )

    @classmethod
    def joined(cls, parts: "Sequence[Segmentation]") -> "Segmentation":
        """From parts of the grid that follow one another along its first axis."""

        def whole(name: str, axis: int = 0) -> Any:
            return np.concatenate([getattr(one, name) for one in parts], axis=axis)

        return replace(
            parts[0],
            logits=whole("logits", axis=1),
            **{name: whole(name) for name in ("largest", "peak", "total")},
        )

    def mask(self, class_index: int, threshold: float | None) -> Bool[np.ndarray, "*grid"]:
        """Where the class is predicted: above a probability, or where its logit is the largest.

        Without a threshold, logits that stand for themselves (a single one, or under a sigmoid)
        must be positive.
        """
        if threshold is not None:
            return self.probability(class_index) > threshold
        if self._are_apart:
            return self._logits_of(class_index) > 0
        return self.largest == class_index

    def probability(self, class_index: int) -> Float[np.ndarray, "*grid"]:
        """Softmax over the classes; the sigmoid where logits stand for themselves."""
        logits = self._logits_of(class_index)
        if self._are_apart:
            return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
        return np.asarray(np.exp(logits - self.peak) / self.total, dtype=np.float32)

    @property
    def _are_apart(self) -> bool:
        return len(self.classes) == 1 or self.activation == "sigmoid"

    def _logits_of(self, class_index: int) -> Float[np.ndarray, "*grid"]:
        return self.logits[self.kept.index(class_index)]


def segment(
    predictor: Predictor,
    case: Case,
    classes: Sequence[str],
    progress: Progress | None = None,
    *,
    explained: int | None = None,
) -> Segmentation:
    """What a predictor makes of a case.

    Parameters
    ----------
    explained : int, optional
        The class whose logits are kept where those of all classes are too many to keep; all are
        kept if it is not given.

    Raises
    ------
    SegxaiError
        If the network has another number of classes than `classes`, or its logits are not finite.
    """
    is_large = len(classes) * math.prod(case.domain_grid.shape) > MOST_KEPT
    kept = None if explained is None or not is_large else (explained,)
    parts = []
    with torch.no_grad(), frozen(predictor.network), exact_arithmetic():
        for slab in predictor.slabs(torch.from_numpy(case.image)[None], progress):
            logits = slab.numpy()
            _check(logits, classes)
            parts.append(Segmentation.of(logits, tuple(classes), predictor.activation, kept))
    return Segmentation.joined(parts)


def _check(logits: Float[np.ndarray, "class *slab"], classes: Sequence[str]) -> None:
    if len(logits) != len(classes):
        raise SegxaiError(
            f"the network returns {len(logits)} logits for each voxel, its adapter names "
            f"{len(classes)} classes: {', '.join(classes)}"
        )
    if not np.isfinite(logits).all():
        raise SegxaiError("the network's logits are not finite; are its weights damaged?")
