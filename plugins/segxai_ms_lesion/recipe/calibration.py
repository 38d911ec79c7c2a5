"""Whether probabilities mean what they say: reliability, and the expected calibration error."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Bool, Float

# Nearly every voxel of a brain lies in the first bin, which tells little: it is kept apart.
EDGES = (0.0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Reliability:
    """Voxels binned by their probability of being lesion; parts of it add up.

    Parameters
    ----------
    voxels : ndarray of shape (bin,)
        How many there are.
    expected : ndarray of shape (bin,)
        The sum of their probabilities: how many should be lesion.
    lesion : ndarray of shape (bin,)
        How many are.
    """

    voxels: Float[np.ndarray, " bin"]
    expected: Float[np.ndarray, " bin"]
    lesion: Float[np.ndarray, " bin"]

    def __add__(self, other: "Reliability") -> "Reliability":
        """Both together."""
        return Reliability(
            self.voxels + other.voxels,
            self.expected + other.expected,
            self.lesion + other.lesion,
        )

    @property
    def in_doubt(self) -> "Reliability":
        """Without the first bin, whose voxels are background for the network."""
        return Reliability(self.voxels[1:], self.expected[1:], self.lesion[1:])

    @property
    def volume_ratio(self) -> float:
        """Expected lesion volume relative to the true one; 1 is right."""
        return float(self.expected.sum() / self.lesion.sum()) if self.lesion.any() else np.nan

    @property
    def points(self) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
        """Mean probability and share of lesion, of each bin that is not empty."""
        filled = self.voxels > 0
        count = self.voxels[filled]
        return self.expected[filled] / count, self.lesion[filled] / count


def reliability(
    probability: Float[np.ndarray, "*grid"], lesion: Bool[np.ndarray, "*grid"]
) -> Reliability:
    """Bin voxels by their probability.

    Parameters
    ----------
    probability, lesion : ndarray of one shape
        Of the voxels that count, and whether they are lesion.
    """
    values = np.asarray(probability, dtype=np.float64).ravel()
    truth = np.asarray(lesion, dtype=np.float64).ravel()
    found = np.searchsorted(EDGES[1:-1], values, side="right")
    bins = len(EDGES) - 1
    return Reliability(
        *(
            np.bincount(found, weights, minlength=bins).astype(np.float64)
            for weights in (np.ones_like(values), values, truth)
        )
    )


def together(parts: Iterable[Reliability]) -> Reliability:
    """Add up the reliability of several images."""
    return reduce(Reliability.__add__, parts)


def expected_calibration_error(binned: Reliability) -> float:
    """Mean distance of probability and share of lesion over bins, each weighed by its voxels.

    NaN without voxels.

    References
    ----------
    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    total = binned.voxels.sum()
    return float(np.abs(binned.expected - binned.lesion).sum() / total) if total else np.nan
