"""Coins: the embedded case, how the embedded network is fed, and how its logits are read."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import nn

from segxai import Adapter, Case, InstanceCriteria, Predictor, Readout, whole_image, with_reference
from segxai_natural_image.cases import INPUT, Feed, Pixels
from segxai_natural_image.coin_network import (
    CLASSES,
    DIVISOR,
    MEAN,
    STANDARD_DEVIATION,
    STRIDE,
    CoinNetwork,
    load_coin_network,
    weights_file,
)

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green, blue: ITU-R BT.601
DRAWN = Path(__file__).parent / "case" / "coins.png"
SMALLEST_PIXELS = 100.0  # of a component that counts as a coin


def grey_input(pixels: Pixels) -> Float[np.ndarray, "1 y x"]:
    """Compute the picture's luminance, normalised as in training."""
    grey = np.tensordot(LUMINANCE, pixels, axes=1)[None]
    return np.asarray((grey - MEAN) / STANDARD_DEVIATION, dtype=np.float32)


def _notes(pixels: Pixels) -> tuple[str, ...]:
    is_grey = bool((pixels[:1] == pixels[1:]).all())
    return () if is_grey else ("colours became grey: 0.299 red + 0.587 green + 0.114 blue",)


CRITERIA = InstanceCriteria(CLASSES.index("coin"), None, SMALLEST_PIXELS)
FEED = Feed(("grey",), grey_input, f"{STANDARD_DEVIATION:g} grey values", _notes)


def embedded_case() -> Case:
    """Load the photograph of 24 coins that comes with scikit-image, with the coins as drawn."""
    from skimage.data import coins  # a file of that package; nothing is downloaded

    grey = coins().astype(np.float32)
    case = with_reference(FEED.case(np.stack([grey] * 3), "embedded"), DRAWN)
    return replace(
        case, reference=np.asarray(case.reference) != 0
    )  # each coin has a label of its own


def predict_coins(network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
    """Build a predictor of the whole picture, with logits interpolated to every pixel."""
    layout = whole_image(case.grid.shape, DIVISOR)
    padded = layout.windows[0].size
    fine = Readout.linear(tuple(n // STRIDE for n in padded), padded)
    return Predictor(network, layout, readout=cropped(fine, case.grid.shape))


def cropped(readout: Readout, shape: tuple[int, ...]) -> Readout:
    """Crop a readout to a shape, at the end of each axis."""
    return Readout(tuple(one[:, :size] for one, size in zip(readout.matrices, shape, strict=True)))


def is_coin_checkpoint(path: Path) -> bool:
    """Tell whether a file holds weights of the embedded network, perhaps trained again."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys()) == set(CoinNetwork().state_dict())
    except (OSError, SafetensorError):
        return False  # the error is reported where the file is read


def coin_adapter(checkpoint: Path | None, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the embedded network, perhaps trained again."""
    return Adapter(
        channels=FEED.channels,
        classes=CLASSES,
        load_network=partial(load_coin_network, checkpoint, weights_key),
        load_case=FEED.load,
        criteria=CRITERIA,
        predict=predict_coins,
        weights=checkpoint or weights_file(),
        inputs=(INPUT,),
        layer="joined",
        embedded_case=embedded_case,
        embedded_options={"samples": 8},
        summary="coins on a photograph; with --checkpoint, models of transformers and torchvision",
    )
