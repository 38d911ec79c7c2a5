"""The subject of the conformance kit: an adapter with its network loaded, and input for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line
from segxai.geometry import Grid
from segxai.plugins.adapter import Adapter
from segxai.segment.detections import Detections
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from segxai.types import Case

Image = Float[Tensor, "1 channel *grid"]
TRIAL_SHAPES = ((64, 64), (32, 32, 32))  # of made-up images, where there is no embedded case


class CheckFailedError(Exception):
    """A failed check: the message tells the adapter's author what is wrong."""


@dataclass(frozen=True)
class Subject:
    """What the checks examine.

    Parameters
    ----------
    adapter, network, checkpoint
        The adapter, and the network that it loads from the checkpoint.
    predictor : Predictor
        The network on one window of a case; where the adapter builds it, on the windows that cover
        the middle of a case.
    image : Tensor
        Input of the predictor.
    classes : tuple of str
        Names of the predictor's logits.
    case : Case, optional
        The embedded case.
    detections : Detections, optional
        Detections in the case, by a model that finds instances itself.
    """

    adapter: Adapter
    network: nn.Module
    checkpoint: Path | None
    predictor: Predictor
    image: Image
    classes: tuple[str, ...]
    case: Case | None
    detections: Detections | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the predictor follows from the adapter's windows alone."""
        return self.adapter.predictor is None and self.detections is None

    def logits(self) -> Float[Tensor, "1 class *out"]:
        """Predict the image, without a graph."""
        with torch.no_grad(), frozen(self.network), exact_arithmetic():
            logits: Tensor = self.predictor(self.image)
        return logits


def make_subject(
    adapter: Adapter, network: nn.Module, case: Case | None, checkpoint: Path | None
) -> Subject:
    """Combine the adapter and its network with an input, from the embedded case or made up.

    Raises
    ------
    CheckFailedError
        If a model that finds instances itself finds none.
    """
    if adapter.predictor is None and adapter.detect is None:
        image = _window(adapter, network, case)
        layout = whole_image(image.shape[2:])
        predictor = Predictor(network, layout, activation=adapter.activation)
        return Subject(adapter, network, checkpoint, predictor, image, adapter.classes, case)
    shown = case or _made_up(adapter, adapter.window or TRIAL_SHAPES[0])
    image = torch.from_numpy(shown.image)[None]
    if adapter.detect is None:
        middle = np.array([[size // 2 for size in shown.grid.shape]])
        predictor, box = adapter.predict_with(network, shown).crop_to(middle)
        part = image[box.index]
        return Subject(adapter, network, checkpoint, predictor, part, adapter.classes, case)
    with torch.no_grad(), frozen(network), exact_arithmetic():
        found = adapter.detect(network, shown, adapter.criteria())
    if not found.names:
        raise CheckFailedError(
            f"nothing is detected in {shown.name}: embed a case with something to detect"
        )
    return Subject(adapter, network, checkpoint, found.predictor, image, found.classes, case, found)


def in_words(error: Exception) -> str:
    """Describe an error that somebody else's code raised, on one line."""
    name = "" if isinstance(error, SegxaiError | CheckFailedError) else f"{type(error).__name__}: "
    return name + one_line(error, limit=2000)


def _window(adapter: Adapter, network: nn.Module, case: Case | None) -> Image:
    """Prepare an input of the size that the network gets: from the embedded case, or random."""
    if case is not None:
        layout = adapter.layout(case.grid.shape)
        window = layout.windows[len(layout.windows) // 2]
        inside = window.inside(case.grid.shape)
        image = torch.zeros(1, len(adapter.channels), *window.size)
        image[inside.seen_from(window).index] = torch.from_numpy(case.image[inside.index])
        return image
    sizes = [adapter.window] if adapter.window else TRIAL_SHAPES
    images = [torch.from_numpy(_made_up(adapter, size).image)[None] for size in sizes]
    return next((one for one in images if _takes(network, one)), images[-1])


def _made_up(adapter: Adapter, shape: tuple[int, ...]) -> Case:
    """Make up a case of noise."""
    generator = np.random.default_rng(0)
    image = generator.normal(size=(len(adapter.channels), *shape)).astype(np.float32)
    everywhere = np.ones(shape, dtype=bool)
    return Case("noise", image, adapter.channels, Grid.unit(shape), everywhere)


def _takes(network: nn.Module, image: Image) -> bool:
    try:
        with torch.no_grad(), frozen(network):
            network(image)
    except Exception:  # whatever somebody else's code raises, this was no input for it
        return False
    return True
