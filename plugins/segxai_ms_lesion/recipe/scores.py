"""How well a predicted lesion mask fits a reference: voxel-wise and lesion-wise."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer
from scipy.ndimage import generate_binary_structure, label

Mask = Bool[np.ndarray, "x y z"]

NEIGHBOURS_18 = generate_binary_structure(3, 2)
SMALLEST_LESION_VOXELS = 5  # 5 mm3 on the 1 mm grids of the recipe
NORMALISED_DICE_LOAD = 0.001


@dataclass(frozen=True)
class Scores:
    """Fit of a prediction; NaN where a score divides by nothing."""

    dice: float
    normalised_dice: float
    true_positive_rate: float  # reference lesions touched by a predicted one
    false_discovery_rate: float  # predicted lesions that touch no reference
    reference_lesions: int
    predicted_lesions: int

    @property
    def lesion_f1(self) -> float:
        """Harmonic mean of the true positive rate and the precision of lesions."""
        precision = 1 - self.false_discovery_rate
        total = precision + self.true_positive_rate
        return 2 * precision * self.true_positive_rate / total if total > 0 else 0.0


def score(prediction: Mask, reference: Mask) -> Scores:
    """All scores of a prediction; components under 5 voxels are dropped from both first.

    Any overlap of one voxel makes a hit.
    """
    predicted, found = without_specks(prediction)
    known, expected = without_specks(reference)
    hit = np.unique(known[predicted > 0])
    confirmed = np.unique(predicted[known > 0])
    return Scores(
        dice=_dice(predicted > 0, known > 0, 1.0),
        normalised_dice=_dice(predicted > 0, known > 0, _load_factor(known > 0)),
        true_positive_rate=_ratio(int(np.count_nonzero(hit)), expected),
        false_discovery_rate=1 - _ratio(int(np.count_nonzero(confirmed)), found),
        reference_lesions=expected,
        predicted_lesions=found,
    )


def without_specks(mask: Mask) -> tuple[Integer[np.ndarray, "x y z"], int]:
    """18-connected components of at least 5 voxels, labelled from 1, and their number."""
    labels, number = label(mask, NEIGHBOURS_18)
    large = np.bincount(labels.ravel(), minlength=number + 1) >= SMALLEST_LESION_VOXELS
    large[0] = False
    renumbered = np.where(large, np.cumsum(large), 0)
    return renumbered[labels], int(large.sum())


def _load_factor(reference: Mask) -> float:
    """Weight of a false positive in normalised Dice: odds of the load over the reference odds.

    References
    ----------
    Raina et al., ISBI 2023, doi 10.1109/ISBI53787.2023.10230755; load 0.001 over the whole grid.
    """
    load = reference.mean()
    odds = NORMALISED_DICE_LOAD / (1 - NORMALISED_DICE_LOAD)
    return float(load / (1 - load) / odds)


def _dice(prediction: Mask, reference: Mask, false_positive_weight: float) -> float:
    """Dice score with weighted false positives."""
    both = int(np.count_nonzero(prediction & reference))
    extra = np.count_nonzero(prediction & ~reference)
    missed = np.count_nonzero(reference & ~prediction)
    return _ratio(2 * both, 2 * both + false_positive_weight * extra + missed)


def _ratio(part: int | float, whole: int | float) -> float:
    """Quotient, NaN for nothing of nothing."""
    return float(part / whole) if whole else float("nan")
