"""Segmentation: a network's prediction, as NumPy arrays so that results are read without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from segxai.types import Activation


@dataclass(frozen=True)
class Segmentation:
    """A network's prediction on the whole grid of instances, from the clean image.

    Parameters
    ----------
    logits : ndarray of shape (kept, *grid)
        Logits of the kept classes: all of them, or only those that matter if all are too many.
    classes : tuple of str
        Names of all classes.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities.
    kept : tuple of int
        The classes that `logits` holds, in its order.
    largest : ndarray of shape (*grid)
        The class whose logit is the largest.
    peak, total : ndarray of shape (*grid)
        The largest logit, and the sum of exp(logit - peak) over all classes.
    entropy : ndarray of shape (*grid)
        Entropy of the softmax over all classes, in nats; means nothing if logits are independent.
    """

    logits: Float[np.ndarray, "*kept_and_grid"]
    classes: tuple[str, ...]
    activation: Activation
    kept: tuple[int, ...]
    largest: Int[np.ndarray, "*grid"]
    peak: Float[np.ndarray, "*grid"]
    total: Float[np.ndarray, "*grid"]
    entropy: Float[np.ndarray, "*grid"]

    @classmethod
    def of(
        cls,
        logits: Float[np.ndarray, "class *grid"],
        classes: tuple[str, ...],
        activation: Activation = "softmax",
        kept: tuple[int, ...] | None = None,
    ) -> "Segmentation":
        """Build a segmentation from the logits of all classes; keep those in `kept`, or all."""
        kept = tuple(range(len(logits))) if kept is None else kept
        peak = logits.max(axis=0)
        below = logits - peak
        shares = np.exp(below)
        total = shares.sum(axis=0)
        entropy = np.log(total) - (shares * below).sum(axis=0) / total
        largest = logits.argmax(axis=0)
        return cls(logits[list(kept)], classes, activation, kept, largest, peak, total, entropy)

    @classmethod
    def joined(cls, parts: "Sequence[Segmentation]") -> "Segmentation":
        """Join the segmentations of parts of the grid, in order along its first axis."""

        def whole(name: str, axis: int = 0) -> Any:
            return np.concatenate([getattr(one, name) for one in parts], axis=axis)

        return replace(
            parts[0],
            logits=whole("logits", axis=1),
            **{name: whole(name) for name in ("largest", "peak", "total", "entropy")},
        )

    def mask(self, class_index: int, threshold: float | None) -> Bool[np.ndarray, "*grid"]:
        """Return where the class is predicted: above a probability, or with the largest logit.

        Without a threshold, a logit that is independent of others (a single one, or under a
        sigmoid) must be positive instead.
        """
        if threshold is not None:
            return self.probability(class_index) > threshold
        if self.are_apart:
            return self._logits_of(class_index) > 0
        return self.largest == class_index

    def probability(self, class_index: int) -> Float[np.ndarray, "*grid"]:
        """Compute the softmax over the classes, or the sigmoid if logits are independent."""
        logits = self._logits_of(class_index)
        if self.are_apart:
            return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
        return np.asarray(np.exp(logits - self.peak) / self.total, dtype=np.float32)

    @property
    def are_apart(self) -> bool:
        """Whether logits are independent: each class has a sigmoid of its own."""
        return len(self.classes) == 1 or self.activation == "sigmoid"

    def _logits_of(self, class_index: int) -> Float[np.ndarray, "*grid"]:
        return self.logits[self.kept.index(class_index)]
