"""nnU-Net's normalisation schemes, one channel at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from segxai import SegxaiError

Values = Float[np.ndarray, "*voxels"]
Inside = Bool[np.ndarray, "*grid"]
Change = Callable[[Values], Values]
Fit = Callable[[Values, Mapping[str, float]], Change]

CT_NUMBERS = ("percentile_00_5", "percentile_99_5", "mean", "std")
LEAST = 1e-8  # smallest divisor
Z_SCORE = "ZScoreNormalization"


@dataclass(frozen=True)
class Normalised:
    """A normalised channel (float32), and what background that is 0 in the file is in it."""

    values: Values
    black: float


def normalise_channel(
    image: Values, scheme: str, inside: Inside | None, intensities: Mapping[str, float]
) -> Normalised:
    """Normalise one channel by the scheme of this name.

    Parameters
    ----------
    image
        Intensities as they are in the file.
    inside
        Where the images differ from 0, if the plans confine normalisation to it: z-scores are
        computed from these voxels and set in them only. Other schemes ignore it.
    intensities
        The plans' statistics of the training data's foreground; CTNormalization needs them.

    Raises
    ------
    SegxaiError
        If RGBTo01Normalization gets values outside of 0 to 255.
    """
    image = image.astype(np.float32)
    if scheme == Z_SCORE and inside is not None:
        values = image[inside]
        image[inside] = SCHEMES[scheme](values, intensities)(values)
        return Normalised(image, 0.0)  # background stays as it is
    change = SCHEMES[scheme](image, intensities)
    return Normalised(change(image), float(change(np.zeros(1, dtype=np.float32))[0]))


def unit_of(schemes: Sequence[str]) -> str:
    """Describe what 1 means in images normalised by these schemes."""
    words = list(dict.fromkeys(UNITS[scheme] for scheme in schemes))
    return words[0] if len(words) == 1 else f"unit of the channel ({', '.join(words)})"


def _z_score(image: Values, _: Mapping[str, float]) -> Change:
    mean, deviation = image.mean(), max(image.std(), LEAST)
    return lambda values: (values - mean) / deviation


def _ct(_: Values, intensities: Mapping[str, float]) -> Change:
    low, high, mean, deviation = (intensities[name] for name in CT_NUMBERS)
    shift, scale = np.float32(mean), np.float32(max(deviation, LEAST))
    return lambda values: (np.clip(values, low, high) - shift) / scale


def _as_it_is(_: Values, __: Mapping[str, float]) -> Change:
    return lambda values: values


def _to_its_range(image: Values, _: Mapping[str, float]) -> Change:
    low = image.min()
    spread = max(image.max() - low, LEAST)
    return lambda values: (values - low) / spread


def _of_255(image: Values, _: Mapping[str, float]) -> Change:
    if image.min() < 0 or image.max() > 255:
        raise SegxaiError(
            f"a channel has values from {image.min():g} to {image.max():g}, but the plans' "
            "RGBTo01Normalization takes colours from 0 to 255; give images like those in training"
        )
    return lambda values: values / np.float32(255)


# Each scheme fits itself to a channel, and returns what to do with every value in it.
SCHEMES: dict[str, Fit] = {
    Z_SCORE: _z_score,
    "CTNormalization": _ct,
    "NoNormalization": _as_it_is,
    "RescaleTo01Normalization": _to_its_range,
    "RGBTo01Normalization": _of_255,
}
UNITS = {
    "ZScoreNormalization": "standard deviation",
    "CTNormalization": "standard deviation of the training foreground",
    "NoNormalization": "intensity in the file",
    "RescaleTo01Normalization": "range of the image",
    "RGBTo01Normalization": "255 grey levels",
}
