"""Prediction: how a network is applied to a case, on the whole image, in windows or its own way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.segment.windows import Layout, sliding_window, whole_image
from segxai.types import Activation, Case, Instance, InstanceCriteria


@runtime_checkable
class Prediction(Protocol):
    """What a model predicts on a case: logits, and what counts as an instance in them.

    `Semantic` and `Detections` are the two kinds; whoever runs a model does not ask which it is.
    """

    @property
    def predictor(self) -> Predictor:
        """The network with its windows on the case's grid."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the predictor's logits."""
        ...

    def explained(self, criteria: InstanceCriteria) -> int | None:
        """Return the logit that must be kept if all are too many; None if all must be."""
        ...

    def class_logit(self, criteria: InstanceCriteria) -> int:
        """Return the logit that scores the class at every voxel; raise SegxaiError without one."""
        ...

    def instances(
        self, segmentation: Segmentation, criteria: InstanceCriteria, case: Case
    ) -> list[Instance]:
        """Find the predicted instances; raise SegxaiError, with what to do, if there is none."""
        ...


Predict = Callable[[nn.Module, Case, InstanceCriteria], Predictor | Prediction]


@dataclass(frozen=True)
class WholeImage:
    """The prediction of a network that takes the whole image at once.

    Parameters
    ----------
    divisor : int
        The image is padded at its end to a multiple of it.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities; "sigmoid" for independent (multi-label) classes.
    output, align_corners
        Which tensor has the logits, and how coarse ones are interpolated; see `Predictor`.
    """

    divisor: int = 1
    activation: Activation = "softmax"
    output: str | int | None = None
    align_corners: bool = False

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay out the one window of an image of this shape."""
        return whole_image(shape, self.divisor)

    def __call__(self, network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
        """Build the predictor of a case."""
        return predictor_for(self, network, self.layout(case.grid.shape))


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
    output, align_corners
        Which tensor has the logits, and how coarse ones are interpolated; see `Predictor`.
    evenly : bool
        Whether windows are spread evenly, as by nnU-Net, or the last moved back, as by MONAI.
    divisor : int, optional
        If given, windows larger than the image shrink to a multiple of it; otherwise the image is
        padded to the window.
    """

    size: tuple[int, ...]
    overlap: float = 0.25
    activation: Activation = "softmax"
    output: str | int | None = None
    align_corners: bool = False
    evenly: bool = False
    divisor: int | None = None

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay out the windows for an image of this shape."""
        return sliding_window(
            shape, self.size, self.overlap, evenly=self.evenly, divisor=self.divisor
        )

    def __call__(self, network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
        """Build the predictor of a case."""
        return predictor_for(self, network, self.layout(case.grid.shape))


def predictor_for(
    prediction: WholeImage | SlidingWindow, network: nn.Module, layout: Layout
) -> Predictor:
    """Build the predictor of a network that is read as the record says, on any windows."""
    return Predictor(
        network,
        layout,
        activation=prediction.activation,
        output=prediction.output,
        align_corners=prediction.align_corners,
    )
