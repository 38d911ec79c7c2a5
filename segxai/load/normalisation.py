"""Normalisation: from the values in a file to the values that a network was trained on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from segxai.errors import SegxaiError

Image = Float[np.ndarray, "channel *grid"]
NAMES = ("none", "z-score", "unit", "imagenet")
FORMS = "mean:M,...;std:S,... and range:LOW,HIGH"
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pictures, scaled to 0 to 1
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of an image before it enters the network.

    Parameters
    ----------
    text : str
        The normalisation as the user gives it.
    unit : str
        What a value of 1 means afterwards.
    apply : callable
        Maps an image (channel, *grid) to the normalised one.
    black : tuple of float, optional
        What 0 becomes in each channel; None if that is not known, or is not the same in all images.
    """

    text: str
    unit: str
    apply: Callable[[Image], Image]
    black: tuple[float, ...] | None = None


def find_normalisation(text: str, channels: int) -> Normalisation:
    """Find the normalisation that a user names.

    Parameters
    ----------
    text : str
        "none"; "z-score", each channel by itself over its non-zero voxels (0 stays 0); "unit",
        0 to 255 becomes 0 to 1; "imagenet", the same, then ImageNet's mean and standard deviation;
        "mean:M,...;std:S,...", one number for each channel or one for all; "range:LOW,HIGH",
        clipped to this range and scaled to 0 to 1.

    Raises
    ------
    SegxaiError
        If the text is none of these, or does not fit the number of channels.
    """
    found = _form(text, channels)
    zeros = np.zeros((channels, 1), dtype=np.float32)
    return replace(found, black=tuple(found.apply(zeros)[:, 0].tolist()))


def _form(text: str, channels: int) -> Normalisation:
    if text == "none":
        return Normalisation(text, "input unit", lambda image: image)
    if text == "z-score":
        return Normalisation(text, "standard deviation", _z_scores)
    if text == "unit":
        return Normalisation(text, "full scale", lambda image: image / np.float32(255))
    if text == "imagenet":
        mean, std = (tuple(255 * one for one in each) for each in (IMAGENET_MEAN, IMAGENET_STD))
        return _shifted(text, mean, std, channels)
    if text.startswith("range:"):
        return _ranged(text)
    if text.startswith("mean:"):
        first, _, second = text.partition(";")
        return _shifted(text, _numbers(first, "mean"), _numbers(second, "std"), channels)
    raise _unknown(text)


def _z_scores(image: Image) -> Image:
    """Normalise each channel by itself; a voxel that is 0 is background and stays 0."""
    found = np.zeros_like(image)
    for channel, normalised in zip(image, found, strict=True):
        inside = channel != 0
        values = channel[inside].astype(np.float64)
        spread = values.std() if len(values) else 0.0
        if spread > 0:
            normalised[inside] = (values - values.mean()) / spread
    return found


def _shifted(
    text: str, mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> Normalisation:
    for name, numbers in {"means": mean, "standard deviations": std}.items():
        if len(numbers) not in (1, channels):
            raise SegxaiError(
                f"--normalise {text}: {len(numbers)} {name} for {channels} channels; give one for "
                "each, or one for all"
            )
    if not all(one > 0 for one in std):
        raise SegxaiError(f"--normalise {text}: a standard deviation must be above 0")

    def apply(image: Image) -> Image:
        shape = (-1, *(1,) * (image.ndim - 1))
        shift, scale = (np.asarray(one, np.float32).reshape(shape) for one in (mean, std))
        return np.asarray((image - shift) / scale, dtype=np.float32)

    return Normalisation(text, "standard deviation", apply)


def _ranged(text: str) -> Normalisation:
    numbers = _numbers(text, "range")
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise SegxaiError(f"--normalise {text}: give range:LOW,HIGH, such as range:-1000,1000")
    low, high = numbers

    def apply(image: Image) -> Image:
        return np.asarray((np.clip(image, low, high) - low) / (high - low), dtype=np.float32)

    return Normalisation(text, f"range of {high - low:g}", apply)


def _numbers(text: str, name: str) -> tuple[float, ...]:
    """Parse the numbers of `name:1,2,3`."""
    start, _, listed = text.partition(":")
    try:
        numbers = tuple(float(one) for one in listed.split(","))
    except ValueError:
        raise _unknown(text) from None
    if start != name or not np.isfinite(numbers).all():
        raise _unknown(text)
    return numbers


def _unknown(text: str) -> SegxaiError:
    return SegxaiError(
        f"--normalise {text} is not known; known: {', '.join(NAMES)}, and with numbers {FORMS}"
    )
