"""Segmentation: what a network predicts. Numpy only, so that results are read without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from segxai.types import Activation


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
