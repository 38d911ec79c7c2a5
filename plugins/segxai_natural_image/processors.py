"""Processors: pictures prepared for a model of transformers as its own image processor does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from segxai import IMAGENET_MEAN, IMAGENET_STD, SegxaiError, check_size, one_line
from segxai_natural_image.cases import Feed, Pixels
from segxai_natural_image.extras import library, quiet

FILES = ("preprocessor_config.json", "processor_config.json")
COLOURS = ("red", "green", "blue")
STEP = 32  # without an image processor, picture sizes are rounded to a multiple of it


def feed_of(folder: Path) -> tuple[Feed, tuple[str, ...]]:
    """Find how a folder's model is fed, and what a user should know about it.

    Cropping and padding are left out, so that the model sees the whole picture and nothing else.

    Raises
    ------
    SegxaiError
        If the folder's image processor cannot be loaded.
    """
    if not any((folder / name).is_file() for name in FILES):
        return Feed(COLOURS, imagenet, "standard deviation"), (
            f"no {FILES[0]} in {folder.name}: colours are normalised as ImageNet's, and the "
            f"picture keeps its size but for rounding to multiples of {STEP}",
        )
    processor = _load(folder)
    cuts = [name for name in ("do_center_crop", "do_pad", "pad_size") if _is_on(processor, name)]
    for name in cuts:
        setattr(processor, name, None if name == "pad_size" else False)
    is_flipped = _is_on(processor, "do_flip_channel_order")
    feed = Feed(
        COLOURS[::-1] if is_flipped else COLOURS,
        lambda pixels: _processed(processor, pixels),
        _unit(processor),
    )
    return feed, tuple(
        f"{name} of its image processor is left out: the whole picture is explained"
        for name in cuts
    )


def imagenet(pixels: Pixels) -> Float[np.ndarray, "3 h w"]:
    """Normalise colours by ImageNet's statistics, and resize to multiples of 32."""
    size = tuple(STEP * max(round(n / STEP), 1) for n in pixels.shape[1:])
    colours = torch.from_numpy(pixels / np.float32(255))
    mean, std = (torch.tensor(one)[:, None, None] for one in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = (colours - mean) / std
    if size != pixels.shape[1:]:
        normalised = functional.interpolate(
            normalised[None], size=size, mode="bilinear", antialias=True
        )[0]
    return normalised.numpy()


def _load(folder: Path) -> Any:
    transformers = library("transformers")
    try:
        with quiet():
            return transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    # For a file that it does not understand, transformers raises errors of many types.
    except Exception as error:
        raise SegxaiError(
            f"the image processor of {folder.name} cannot be loaded ({one_line(error)}); fix its "
            f"{FILES[0]}, or remove it: ImageNet's normalisation is used then"
        ) from error


def _processed(processor: Any, pixels: Pixels) -> Float[np.ndarray, "channel h w"]:
    """Apply the processor to a picture; it takes whole numbers, rows first."""
    rgb = np.moveaxis(pixels, 0, -1).round().astype(np.uint8)
    try:
        _check_output(processor, pixels.shape[1:])
        with quiet():
            found = processor(images=rgb, input_data_format="channels_last", return_tensors="pt")
        image = np.asarray(found["pixel_values"][0].numpy(), dtype=np.float32)
    except SegxaiError:
        raise
    # For settings that it cannot use, transformers raises errors of many types.
    except Exception as error:
        raise SegxaiError(f"the model's image processor fails: {one_line(error)}") from error
    if image.ndim != 3 or len(image) != len(COLOURS) or not np.isfinite(image).all():
        raise SegxaiError(
            f"the model's image processor returns an image of shape {image.shape}; expected 3 "
            "finite channels"
        )
    return image


def _check_output(processor: Any, shape: tuple[int, ...]) -> None:
    """Check the size that the processor would resize a picture to."""
    size = getattr(processor, "size", None) or {}
    named = {"": size} if isinstance(size, int) else dict(size)
    edges = [n for n in named.values() if isinstance(n, int | float) and 0 < n < math.inf]
    if _is_on(processor, "do_resize") and edges:
        longest = max(edges) * max(shape) / min(shape) if "shortest_edge" in named else max(edges)
        check_size((int(max(edges)), int(longest)), "the picture resized by the model's processor")


def _unit(processor: Any) -> str:
    """Describe what 1 means after the processor."""
    if _is_on(processor, "do_normalize"):
        return "standard deviation"
    return "full scale" if _is_on(processor, "do_rescale") else "input unit"


def _is_on(processor: Any, name: str) -> bool:
    return bool(getattr(processor, name, None))
