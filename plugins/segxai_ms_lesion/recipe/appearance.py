"""What scanners do to an image: contrast, bias field, blur, thick slices, noise."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, uniform_filter1d

from segxai_ms_lesion.recipe.volumes import smooth_field

Image = Float[np.ndarray, "x y z"]


def scanned(image: Image, strength: float, random: np.random.Generator) -> Image:
    """Render the image as another scanner might; 0 stays 0, and nothing else becomes 0.

    `strength` scales every change: 0 gives the image back in units of its 99 % level, 1 is as
    far as training goes.
    """
    brain = image != 0
    result = image / np.percentile(image[brain], 99)
    result = _recontrasted(result, strength, random)
    first, second, third = random.integers(3, 6, 3).tolist()
    bias = random.uniform(0, 0.15 * strength) * smooth_field(
        random, (first, second, third), image.shape
    )
    result = result * np.exp(bias)
    result = _blurred(result, strength, random)
    deviation = random.uniform(0, 0.06) * strength
    noise = random.standard_normal((2, *image.shape), dtype=np.float32) * deviation
    result = np.hypot(result + noise[0], noise[1]) if strength else result
    return np.where(brain, np.where(result == 0, 1e-6, result), 0).astype(np.float32)


def _recontrasted(image: Image, strength: float, random: np.random.Generator) -> Image:
    """Apply a random increasing curve to the values: a power, then a bent line."""
    power = np.exp(random.uniform(-0.35, 0.35) * strength)
    curved = np.clip(image, 0, None) ** power
    knots = np.linspace(0, 1.5, 6)
    steps = np.exp(random.uniform(-0.5, 0.5, 5) * strength)
    heights = np.concatenate([[0], np.cumsum(steps)]) / 5 * 1.5
    # The last segment goes on, so that bright voxels keep their order.
    beyond = np.clip(curved - 1.5, 0, None) * steps[-1]
    bent: Image = np.interp(curved, knots, heights).astype(np.float32) + beyond
    return bent


def _blurred(image: Image, strength: float, random: np.random.Generator) -> Image:
    """Blurred evenly, or along one axis as thick slices do, or not at all."""
    kind = random.choice(["none", "even", "slices"], p=[0.5, 0.3, 0.2])
    if kind == "even":
        return np.asarray(gaussian_filter(image, random.uniform(0, 0.8) * strength))
    if kind == "slices" and strength > 0.3:
        width = int(random.integers(2, 5))
        return np.asarray(uniform_filter1d(image, width, axis=int(random.integers(3))))
    return image
