"""Prediction: how a network is applied to a case, on the whole image, in windows or its own way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from segxai.segment.detections import Detections
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout, sliding_window, whole_image
from segxai.types import Activation, Case, InstanceCriteria

Predict = Callable[[nn.Module, Case, InstanceCriteria], Predictor | Detections]


def predictor_of(predicted: Predictor | Detections) -> Predictor:
    """Return the predictor of a prediction of either kind."""
    return predicted.predictor if isinstance(predicted, Detections) else predicted


@dataclass(frozen=True)
class WholeImage:
    """The prediction of a network that takes the whole image at once.

    Parameters
    ----------
    divisor : int
        The image is padded at its end to a multiple of it.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities; "sigmoid" for independent (multi-label) classes.
    """

    divisor: int = 1
    activation: Activation = "softmax"

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay out the one window of an image of this shape."""
        return whole_image(shape, self.divisor)

    def __call__(self, network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
        """Build the predictor of a case."""
        return Predictor(network, self.layout(case.grid.shape), activation=self.activation)


@dataclass(frozen=True)
class SlidingWindow:
    """The prediction of a network that takes overlapping windows, blended with Gaussian weights.

    Parameters
    ----------
    size : tuple of int
        Size of a window.
    overlap : float
        Overlap of neighbouring windows, as a share of their size.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities; "sigmoid" for independent (multi-label) classes.
    """

    size: tuple[int, ...]
    overlap: float = 0.25
    activation: Activation = "softmax"

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay out the windows for an image of this shape."""
        return sliding_window(shape, self.size, self.overlap)

    def __call__(self, network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
        """Build the predictor of a case."""
        return Predictor(network, self.layout(case.grid.shape), activation=self.activation)
