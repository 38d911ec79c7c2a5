"""nnU-Net's normalisation schemes, one channel at a time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from segxai import SegxaiError

Channel = Float[np.ndarray, "*grid"]
Inside = Bool[np.ndarray, "*grid"]
Scheme = Callable[[Channel, Inside | None, Mapping[str, float]], Channel]

CT_NUMBERS = ("percentile_00_5", "percentile_99_5", "mean", "std")
LEAST = 1e-8  # smallest divisor


def normalise_channel(
    image: Channel, scheme: str, inside: Inside | None, intensities: Mapping[str, float]
) -> Channel:
    """Normalise one channel by the scheme of this name, as float32.

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
    return SCHEMES[scheme](image.astype(np.float32), inside, intensities)


def unit_of(schemes: Sequence[str]) -> str:
    """Describe what 1 means in images normalised by these schemes."""
    words = list(dict.fromkeys(UNITS[scheme] for scheme in schemes))
    return words[0] if len(words) == 1 else f"unit of the channel ({', '.join(words)})"


def _z_score(image: Channel, inside: Inside | None, _: Mapping[str, float]) -> Channel:
    where = ... if inside is None else inside
    values = image[where]
    image[where] = (values - values.mean()) / max(values.std(), LEAST)
    return image


def _ct(image: Channel, _: Inside | None, intensities: Mapping[str, float]) -> Channel:
    low, high, mean, deviation = (intensities[name] for name in CT_NUMBERS)
    return (np.clip(image, low, high) - np.float32(mean)) / np.float32(max(deviation, LEAST))


def _as_it_is(image: Channel, _: Inside | None, __: Mapping[str, float]) -> Channel:
    return image


def _to_its_range(image: Channel, _: Inside | None, __: Mapping[str, float]) -> Channel:
    image = image - image.min()
    return np.asarray(image / max(image.max(), LEAST))


def _of_255(image: Channel, _: Inside | None, __: Mapping[str, float]) -> Channel:
    if image.min() < 0 or image.max() > 255:
        raise SegxaiError(
            f"a channel has values from {image.min():g} to {image.max():g}, but the plans' "
            "RGBTo01Normalization takes colours from 0 to 255; give images like those in training"
        )
    return image / np.float32(255)


SCHEMES: dict[str, Scheme] = {
    "ZScoreNormalization": _z_score,
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
