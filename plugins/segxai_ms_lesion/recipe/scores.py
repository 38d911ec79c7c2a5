"""How well a predicted lesion mask fits a reference: voxel-wise and lesion-wise."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from segxai import Grid, InstanceCriteria
from segxai.instances import components
from segxai.matching import Matching, Voxels, match
from segxai.tables.scores import dice

Mask = Bool[np.ndarray, "x y z"]

CRITERIA = InstanceCriteria(min_volume_mm3=5.0, connectivity=2)


@dataclass(frozen=True)
class Scores:
    """Fit of a prediction; NaN where a score divides by nothing.

    Parameters
    ----------
    dice, normalised_dice : float
        See `segxai.tables.scores.dice`; the load is over the whole grid.
    matching : Matching
        The lesions of each side that touch one of the other.
    """

    dice: float
    normalised_dice: float
    matching: Matching

    @property
    def columns(self) -> dict[str, float]:
        """Scores and the counts of both sides, named as in the table of `segxai table`."""
        return {
            "dice": self.dice,
            "ndsc": self.normalised_dice,
            **self.matching.counts,
            "tpr_of_reference": self.matching.recall,
            "fdr_of_predicted": 1 - self.matching.precision,
        }


def score(prediction: Mask, reference: Mask) -> Scores:
    """All scores of a prediction; components under 5 voxels are dropped from both first.

    Any overlap of one voxel makes a hit.
    """
    predicted, known = lesions(prediction), lesions(reference)
    found, expected = _mask(predicted, prediction.shape), _mask(known, reference.shape)
    return Scores(
        dice(found, expected), dice(found, expected, normalised=True), match(predicted, known)
    )


def lesions(mask: Mask) -> list[Voxels]:
    """Find the voxels of each 18-connected component of at least 5 mm3, on a grid of 1 mm."""
    return components(mask, Grid.unit(mask.shape), CRITERIA)


def _mask(parts: list[Voxels], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for voxels in parts:
        mask[tuple(voxels.T)] = True
    return mask
