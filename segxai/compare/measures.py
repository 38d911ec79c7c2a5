"""Measures: numbers for how alike two maps of one channel are; NaN where one has no meaning."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from skimage.metrics import structural_similarity

NAN = float("nan")
SALIENT = 0.05  # the share of voxels, by magnitude, whose signs are compared
WINDOW = 7  # voxels an axis, of SSIM: skimage's own

Flat = Float[np.ndarray, " voxel"]


@dataclass(frozen=True)
class Overlay:
    """Two maps of one channel on the same voxels.

    Parameters
    ----------
    first, second : ndarray of shape (*box)
        float64.
    compared : ndarray of shape (*box)
        Where they are compared.
    steps : ndarray of shape (axis, axis)
        Column i: the step along axis i, in mm.
    variance : ndarray of shape (*box), optional
        The variance of the difference, of the two standard errors; None if one is not stored.
    """

    first: Float[np.ndarray, "*box"]
    second: Float[np.ndarray, "*box"]
    compared: Bool[np.ndarray, "*box"]
    steps: Float[np.ndarray, "axis axis"]
    variance: Float[np.ndarray, "*box"] | None = None

    @cached_property
    def values(self) -> tuple[Flat, Flat]:
        """The values of both maps where they are compared."""
        return self.first[self.compared], self.second[self.compared]

    @cached_property
    def voxels(self) -> Float[np.ndarray, "voxel axis"]:
        """The positions of the compared voxels in mm, from the first voxel of the box."""
        return np.argwhere(self.compared) @ self.steps.T


@dataclass(frozen=True)
class Measure:
    """A measure of two maps.

    Parameters
    ----------
    name : str
        As tables have it.
    title : str
        As figures have it.
    compute : callable
        Maps an `Overlay` to a number.
    of_itself : float, optional
        What a map has with itself: 1 for a similarity, 0 for a distance; None if it is neither.
    is_length : bool
        Whether the unit is mm (pixels in pictures).
    needs : {"", "signs", "units"}
        "signs": only maps with channels have it. "units": only maps with the same unit.
    """

    name: str
    title: str
    compute: Callable[[Overlay], float]
    of_itself: float | None = 1.0
    is_length: bool = False
    needs: str = ""

    @property
    def is_similarity(self) -> bool:
        """Whether larger means more alike."""
        return self.of_itself == 1


def spearman(overlay: Overlay) -> float:
    """Compute Spearman's rank correlation; NaN if a map is constant."""
    first, second = overlay.values
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return NAN
    ranks = (stats.rankdata(values) for values in (first, second))
    return float(np.corrcoef(*ranks)[0, 1])


def cosine(overlay: Overlay) -> float:
    """Compute the cosine of the angle between two maps; NaN if one is 0."""
    first, second = overlay.values
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else NAN


def sign_agreement(overlay: Overlay) -> float:
    """Compute the share of salient voxels with the same sign in both maps.

    Salient are the 5 % of largest magnitude in either map.
    """
    first, second = overlay.values
    salient = largest(first, SALIENT) | largest(second, SALIENT)
    agree = np.sign(first[salient]) == np.sign(second[salient])
    return float(agree.mean()) if agree.size else NAN


def overlap(share: float) -> Callable[[Overlay], float]:
    """Return the Dice overlap of the voxels of largest magnitude, such a share of both maps."""

    def compute(overlay: Overlay) -> float:
        first, second = (largest(values, share) for values in overlay.values)
        count = int(first.sum() + second.sum())
        return float(2 * (first & second).sum() / count) if count else NAN

    return compute


def largest(values: Flat, share: float) -> Bool[np.ndarray, " voxel"]:
    """Mark the values of largest magnitude: a share of them, rounded up, and all ties; never 0."""
    magnitudes = abs(values)
    count = min(int(np.ceil(share * len(values))), len(values))
    if not count:
        return np.zeros(len(values), dtype=bool)
    limit = np.partition(magnitudes, -count)[-count]
    return np.asarray((magnitudes >= limit) & (magnitudes > 0))


def ssim(overlay: Overlay) -> float:
    """Compute the structural similarity (Wang et al. 2004), averaged over the compared voxels.

    The data range is the larger peak of the two maps; windows have 7 voxels an axis, or as many as
    the box. NaN if both maps are 0 or the box is thinner than 3 voxels.
    """
    sides = min(overlay.first.shape)
    window = min(WINDOW, sides - (sides + 1) % 2)
    peak = max(float(abs(values).max(initial=0)) for values in overlay.values)
    if window < 3 or not peak:
        return NAN
    _, similar = structural_similarity(
        overlay.first, overlay.second, win_size=window, data_range=peak, full=True
    )
    return float(similar[overlay.compared].mean())


def relative_difference(overlay: Overlay) -> float:
    """Compute the norm of the difference, relative to the quadratic mean of both maps' norms.

    0 for equal maps, 2 for opposite ones, the square root of 2 for those that share no voxel.
    """
    first, second = overlay.values
    whole = float(np.sqrt((first @ first + second @ second) / 2))
    return float(np.linalg.norm(first - second)) / whole if whole else NAN


def explained_by_error(overlay: Overlay) -> float:
    """Compute the share of the squared difference that the stored standard errors explain.

    The sum of both squared errors, which independent maps of one mean would differ by on average,
    over the sum of the squared differences. It can exceed 1. NaN without errors or a difference.
    """
    if overlay.variance is None:
        return NAN
    first, second = overlay.values
    difference = float(((first - second) ** 2).sum())
    return float(overlay.variance[overlay.compared].sum()) / difference if difference else NAN


def peak_distance(overlay: Overlay) -> float:
    """Compute the distance between the voxels of largest magnitude; of ties, the first ones."""
    first, second = (abs(values) for values in overlay.values)
    if not (first.any() and second.any()):
        return NAN
    return _length(overlay.voxels[first.argmax()] - overlay.voxels[second.argmax()])


def centre_distance(overlay: Overlay) -> float:
    """Compute the distance between the centres of mass of the magnitudes."""
    first, second = (abs(values) for values in overlay.values)
    if not (first.any() and second.any()):
        return NAN
    centres = [values @ overlay.voxels / values.sum() for values in (first, second)]
    return _length(centres[0] - centres[1])


def _length(step: Float[np.ndarray, " axis"]) -> float:
    return float(np.linalg.norm(step))


MEASURES = (
    Measure("spearman", "Spearman", spearman),
    Measure("cosine", "cosine", cosine),
    Measure("sign_agreement", "same sign", sign_agreement, needs="signs"),
    Measure("top_1_overlap", "top 1 %", overlap(0.01)),
    Measure("top_5_overlap", "top 5 %", overlap(0.05)),
    Measure("ssim", "SSIM", ssim, needs="units"),
    Measure("peak_distance", "peaks apart", peak_distance, 0.0, is_length=True),
    Measure("centre_distance", "centres apart", centre_distance, 0.0, is_length=True),
    Measure("relative_difference", "difference", relative_difference, 0.0, needs="units"),
    Measure("explained_by_error", "explained", explained_by_error, None, needs="units"),
)


def measured(overlay: Overlay, *, signs: bool, units: bool) -> dict[str, float]:
    """Compute all measures that two maps have.

    Parameters
    ----------
    signs, units : bool
        Whether both maps have signs, and whether they have the same unit.

    Returns
    -------
    dict of float
        By name; all NaN if nothing is compared or a value is not finite.
    """
    kept = [one for one in MEASURES if {"": True, "signs": signs, "units": units}[one.needs]]
    first, second = overlay.values
    is_usable = first.size and np.isfinite(first).all() and np.isfinite(second).all()
    return {one.name: one.compute(overlay) if is_usable else NAN for one in kept}
