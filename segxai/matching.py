"""Matching: which predicted components are in the reference, and which of its own are found.

Each side is counted by itself. A TP is a predicted component and an FN one of the reference, so
that TP / (TP + FN) is no rate: several predicted components can lie in one of the reference, and
one predicted component can cover several.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from segxai.errors import SegxaiError
from segxai.geometry import Box

Voxels = Int[np.ndarray, "_ axis"]
ANY, IOU, ONE_TO_ONE = "any", "iou:", "one-to-one"


@dataclass(frozen=True)
class Matching:
    """The components of a prediction and of a reference that a rule matches.

    Parameters
    ----------
    rule : str
        "any", "iou:T" or "one-to-one", see `match`.
    predicted : ndarray of bool, of shape (predicted,)
        Whether each predicted component is matched: TP, otherwise FP.
    reference : ndarray of bool, of shape (reference,)
        Whether each component of the reference is matched: found, otherwise FN.
    """

    rule: str
    predicted: Bool[np.ndarray, " predicted"]
    reference: Bool[np.ndarray, " reference"]

    @property
    def counts(self) -> dict[str, int]:
        """How many components of each side are matched and not."""
        return {
            "predicted_tp": int(self.predicted.sum()),
            "predicted_fp": int((~self.predicted).sum()),
            "reference_found": int(self.reference.sum()),
            "reference_fn": int((~self.reference).sum()),
        }

    @property
    def precision(self) -> float:
        """Share of the predicted components that are TP; NaN if there is none."""
        return float(self.predicted.mean()) if len(self.predicted) else math.nan

    @property
    def recall(self) -> float:
        """Share of the components of the reference that are found; NaN if there is none."""
        return float(self.reference.mean()) if len(self.reference) else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 if both are; NaN if either is."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def in_words(self) -> str:
        """Describe the counts, each of its own side."""
        hits, false = int(self.predicted.sum()), int((~self.predicted).sum())
        found, missed = int(self.reference.sum()), int((~self.reference).sum())
        return (
            f"match {self.rule}: {hits} TP and {false} FP of {len(self.predicted)} predicted; "
            f"{found} found and {missed} FN of {len(self.reference)} in the reference"
        )


def match(
    predicted: Sequence[Voxels],
    reference: Sequence[Voxels],
    rule: str = ANY,
    *,
    too_small: Sequence[Voxels] = (),
) -> Matching:
    """Match the components of a prediction with those of a reference.

    Parameters
    ----------
    predicted, reference : sequence of ndarray of shape (voxel, axis)
        The voxels of each component.
    rule : str
        "any": components that share a voxel. "iou:T": whose intersection over union is T or more.
        "one-to-one": each with one at most, of those that share a voxel, so that the sum of the
        IoUs is the largest.
    too_small : sequence of ndarray of shape (voxel, axis)
        Components of the reference that do not count on its side. A predicted component that
        matches one of these is TP.

    Raises
    ------
    SegxaiError
        If there is no such rule.
    """
    threshold = threshold_of(rule)
    found = overlaps(predicted, [*reference, *too_small])
    pairs = assigned(found) if threshold is None else found >= threshold
    hit, covered = (np.asarray(pairs.any(axis=axis)) for axis in (1, 0))
    return Matching(rule, hit, covered[: len(reference)])


def threshold_of(rule: str) -> float | None:
    """Return the smallest IoU of a matched pair by a rule; None if pairs are assigned one to one.

    Raises
    ------
    SegxaiError
        If there is no such rule.
    """
    if rule == ONE_TO_ONE:
        return None
    if rule == ANY:
        return float(np.finfo(float).tiny)
    try:
        threshold = float(rule.removeprefix(IOU)) if rule.startswith(IOU) else math.nan
    except ValueError:
        threshold = math.nan
    if not 0 < threshold <= 1:
        raise SegxaiError(
            f"unknown rule {rule!r} to match components; known: {ANY}, {ONE_TO_ONE}, and {IOU}T "
            f"with T above 0 and up to 1, such as {IOU}0.5"
        )
    return threshold


def overlaps(
    predicted: Sequence[Voxels], reference: Sequence[Voxels]
) -> Float[np.ndarray, "predicted reference"]:
    """Compute the intersection over union of each pair of components."""
    if not (len(predicted) and len(reference)):
        return np.zeros((len(predicted), len(reference)))
    everything = np.concatenate([*predicted, *reference])
    box = Box.around(everything)
    ones, others = (_incidence(some, box) for some in (predicted, reference))
    shared = (ones @ others.T).toarray()
    sizes = ones.sum(axis=1)[:, None] + others.sum(axis=1)[None, :]
    return np.asarray(shared / (sizes - shared))


def _incidence(components: Sequence[Voxels], box: Box) -> csr_array:
    """Mark the voxels of each component: a row of a sparse matrix."""
    sizes = [len(voxels) for voxels in components]
    rows = np.repeat(np.arange(len(components)), sizes)
    columns = box.flat(np.concatenate(components))
    shape = (len(components), math.prod(box.size))
    return csr_array((np.ones(len(rows)), (rows, columns)), shape)


def assigned(
    found: Float[np.ndarray, "predicted reference"],
) -> Bool[np.ndarray, "predicted reference"]:
    """Choose pairs, each component in one at most, so that the sum of their IoUs is the largest."""
    pairs = np.zeros(found.shape, dtype=bool)
    pairs[linear_sum_assignment(found, maximize=True)] = True
    return pairs & (found > 0)
