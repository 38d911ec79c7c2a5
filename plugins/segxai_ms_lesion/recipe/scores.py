"""How well a predicted lesion mask fits a reference: voxel-wise and lesion-wise."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from segxai import Grid, InstanceCriteria
from segxai.instances import components
from segxai.matching import Voxels, match

Mask = Bool[np.ndarray, "x y z"]

CRITERIA = InstanceCriteria(min_volume_mm3=5.0, connectivity=2)
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
    predicted, known = lesions(prediction), lesions(reference)
    found, expected = _mask(predicted, prediction.shape), _mask(known, reference.shape)
    matching = match(predicted, known)
    return Scores(
        dice=_dice(found, expected, 1.0),
        normalised_dice=_dice(found, expected, _load_factor(expected)),
        true_positive_rate=matching.recall,
        false_discovery_rate=1 - matching.precision,
        reference_lesions=len(known),
        predicted_lesions=len(predicted),
    )


def lesions(mask: Mask) -> list[Voxels]:
    """Find the voxels of each 18-connected component of at least 5 mm3, on a grid of 1 mm."""
    return components(mask, Grid.unit(mask.shape), CRITERIA)


def _mask(parts: list[Voxels], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for voxels in parts:
        mask[tuple(voxels.T)] = True
    return mask


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
