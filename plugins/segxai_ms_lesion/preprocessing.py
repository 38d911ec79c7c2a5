"""Preprocessing: from raw magnetic resonance images to what the network was trained on."""

import numpy as np
from jaxtyping import Float

WINSOR_PERCENTILES = (0.5, 99.5)
CLIP_STANDARD_DEVIATIONS = 5.0


def normalise(image: Float[np.ndarray, "*grid"]) -> Float[np.ndarray, "*grid"]:
    """Normalise an image to standard deviations of its own brain; 0 stays exactly 0.

    The brain is every voxel that differs from 0 (skull-stripped input). Its mean and standard
    deviation are taken over values winsorised at the 0.5 and 99.5 percentiles, so that a few
    bright vessels do not set the scale; the result is clipped to 5 standard deviations either way.
    Any positive factor on the input cancels out. A brain of one value, or none, becomes zeros.

    Parameters
    ----------
    image
        One channel, one modality, in any unit.

    Returns
    -------
    Float32, same grid.

    Notes
    -----
    The limit was read off patient07 of the training data: its FLAIR lesions end at 3.7, its 99.99
    percentiles are 3.2 (FLAIR) and 2.1 (MPRAGE), but single MPRAGE voxels reach 11. SmoothGrad
    scales its noise with the range of a channel, which those voxels would double; no lesion voxel
    is clipped.
    """
    result = np.zeros(image.shape, dtype=np.float32)
    brain = image != 0
    if not brain.any():
        return result
    values = image[brain].astype(np.float64)
    mean, deviation = _robust_moments(values)
    if deviation > 0:
        limit = CLIP_STANDARD_DEVIATIONS
        result[brain] = np.clip((values - mean) / deviation, -limit, limit)
    return result


def normalise_all(
    images: Float[np.ndarray, "channel *grid"],
) -> Float[np.ndarray, "channel *grid"]:
    """Normalise every channel by itself."""
    return np.stack([normalise(image) for image in images])


def _robust_moments(values: Float[np.ndarray, " voxel"]) -> tuple[float, float]:
    """Compute the mean and the standard deviation of the winsorised values."""
    low, high = np.percentile(values, WINSOR_PERCENTILES)
    kept = np.clip(values, low, high)
    return float(kept.mean()), float(kept.std())
