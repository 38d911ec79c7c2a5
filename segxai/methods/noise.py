"""Noise of the copies: its levels, how it is drawn, and how many copies are enough."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from segxai.errors import SegxaiError, unknown_name
from segxai.methods.options import NoiseOptions

Draw = Callable[[int, int, tuple[int, ...]], Float[np.ndarray, "*shape"]]

# Independent maps: the standard error of so many is itself known to within about a quarter.
FEWEST_COPIES = 10
EXPECTED_COPIES = 50  # copies, as long as no error is known
TOLERANCE = 0.03  # of the peak; about what the paper's 50 copies of a small lesion reach

NOISE_UNITS: dict[str, Callable[[Float[np.ndarray, " voxel"]], float]] = {
    "range": lambda values: float(values.max() - values.min()),
    "p99": lambda values: float(np.subtract(*np.percentile(values, [99, 1]))),
    "absolute": lambda values: 1.0,
}


def noise_levels(
    image: Float[np.ndarray, "channel *grid"],
    foreground: Bool[np.ndarray, "*grid"],
    noise: float,
    unit: str = "range",
) -> tuple[float, ...]:
    """Compute the standard deviation of the noise in each channel, in units of the input.

    Parameters
    ----------
    image, foreground
        The clean normalised image, and the voxels whose values count.
    noise : float
        Level, relative to the unit.
    unit : {"range", "p99", "absolute"}
        What 1 means: the range (max - min) of the channel over the foreground, as SmoothGrad's own
        paper defines it; the distance between its percentiles 1 and 99; one unit of the input.
    """
    if unit not in NOISE_UNITS:
        raise unknown_name("noise unit", unit, NOISE_UNITS)
    if not (noise >= 0 and np.isfinite(noise)):
        raise SegxaiError(f"noise {noise} is not a level; give 0 (no noise) or more, such as 0.05")
    return tuple(noise * NOISE_UNITS[unit](channel[foreground]) for channel in image)


def draw_noise(
    seed: int, copy: int, channel: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "*shape"]:
    """Draw standard normal noise for one channel of one noisy copy.

    The noise depends on the arguments alone: it is the same on every device, whatever was drawn
    before.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, copy, channel]))
    return np.random.Generator(stream).standard_normal(shape, dtype=np.float32)


def stop_at(noise: NoiseOptions) -> float | None:
    """Return the error of the peak at which copies are enough; None for a fixed number of them."""
    if noise.samples != "auto":
        return None
    return TOLERANCE if noise.tolerance is None else noise.tolerance
