"""The subject of the conformance kit: an adapter with its network loaded, and input for it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line
from segxai.geometry import Grid
from segxai.plugins.adapter import Adapter
from segxai.segment.detections import Detections
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predict import segment
from segxai.segment.prediction import Prediction, SlidingWindow, WholeImage, predictor_for
from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.segment.windows import whole_image
from segxai.types import Case

Image = Float[Tensor, "1 channel *grid"]
PLAIN = (WholeImage, SlidingWindow)  # predictions that follow from a record of sizes alone
TRIAL_SHAPES = ((64, 64), (32, 32, 32))  # of made-up images, where there is no embedded case


class CheckFailedError(Exception):
    """A failed check: the message tells the adapter's author what is wrong."""


@dataclass(frozen=True)
class Subject:
    """What the checks examine.

    Parameters
    ----------
    adapter, network
        The adapter, and the network that it loads.
    predictor : Predictor
        The network on one window of a case; where the adapter builds it, on the windows that cover
        the middle of a case.
    image : Tensor
        Input of the predictor.
    classes : tuple of str
        Names of the predictor's logits.
    case : Case, optional
        The embedded case.
    prediction : Prediction, optional
        The prediction of all of a case, where the adapter has its own way.
    """

    adapter: Adapter
    network: nn.Module
    predictor: Predictor
    image: Image
    classes: tuple[str, ...]
    case: Case | None
    prediction: Prediction | None = None

    @property
    def detections(self) -> Detections | None:
        """Detections in the case, by a model that finds instances itself."""
        return self.prediction if isinstance(self.prediction, Detections) else None

    @cached_property
    def prediction_of_case(self) -> tuple[Prediction, Segmentation]:
        """The prediction of all of the embedded case, and the segmentation by it."""
        if self.case is None:
            raise ValueError("there is no embedded case")
        found = self.prediction
        if found is None:
            found = self.adapter.prediction(self.network, self.case, self.adapter.criteria)
        return found, segment(found.predictor, self.case, found.classes)

    @property
    def is_plain(self) -> bool:
        """Whether the predictor follows from the sizes of windows alone."""
        return isinstance(self.adapter.predict, PLAIN)

    def logits(self) -> Float[Tensor, "1 class *out"]:
        """Predict the image, without a graph."""
        with torch.no_grad(), frozen(self.network), exact_arithmetic():
            logits: Tensor = self.predictor(self.image)
        return logits


def make_subject(adapter: Adapter, network: nn.Module, case: Case | None) -> Subject:
    """Combine the adapter and its network with an input, from the embedded case or made up."""
    if isinstance(adapter.predict, PLAIN):
        image = _window(adapter, adapter.predict, network, case)
        predictor = predictor_for(adapter.predict, network, whole_image(image.shape[2:]))
        return Subject(adapter, network, predictor, image, adapter.classes, case)
    shown, found = _predicted(adapter, network, case)
    image, classes = torch.from_numpy(shown.image)[None], found.classes
    if isinstance(found, Detections):
        return Subject(adapter, network, found.predictor, image, classes, case, found)
    middle = np.array([[size // 2 for size in shown.grid.shape]])
    predictor, box = found.predictor.crop_to(middle)
    return Subject(adapter, network, predictor, image[box.index], classes, case, found)


def in_words(error: Exception) -> str:
    """Describe an error that somebody else's code raised, on one line."""
    name = "" if isinstance(error, SegxaiError | CheckFailedError) else f"{type(error).__name__}: "
    return name + one_line(error, limit=2000)


def _predicted(adapter: Adapter, network: nn.Module, case: Case | None) -> tuple[Case, Prediction]:
    """Predict the case in the adapter's own way; without one, noise of a shape that it takes."""
    shown = [case] if case else [_made_up(adapter, shape) for shape in TRIAL_SHAPES]
    for number, one in enumerate(shown, start=1):
        try:
            return one, adapter.prediction(network, one, adapter.criteria)
        except Exception:  # whatever somebody else's code raises, this was no input for it
            if number == len(shown):
                raise
    raise ValueError("no shape to try")


def _window(
    adapter: Adapter, predict: WholeImage | SlidingWindow, network: nn.Module, case: Case | None
) -> Image:
    """Prepare an input of the size that the network gets: from the embedded case, or random."""
    if case is not None:
        layout = predict.layout(case.grid.shape)
        window = layout.windows[len(layout.windows) // 2]
        inside = window.inside(case.grid.shape)
        image = torch.zeros(1, len(adapter.channels), *window.size)
        image[inside.seen_from(window).index] = torch.from_numpy(case.image[inside.index])
        return image
    sizes = [predict.size] if isinstance(predict, SlidingWindow) else TRIAL_SHAPES
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
