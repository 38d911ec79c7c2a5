"""The adapter: a record of functions, by which an author tells segxai how to use a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import nn

from segxai.errors import SegxaiError
from segxai.load.reader import LoadCase, read_case
from segxai.segment.detections import Detections
from segxai.segment.failures import failures_of_network
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.prediction import Predict, Prediction, WholeImage
from segxai.segment.predictor import Predictor
from segxai.segment.semantic import Semantic
from segxai.types import Case, InstanceCriteria

CheckObjects = Callable[[Case, Bool[np.ndarray, "*grid"]], Sequence[str]]


def _no_embedded_case() -> Case:
    raise SegxaiError("this plugin has no embedded case; give it images")


def _no_warnings(case: Case, objects: Bool[np.ndarray, "*grid"]) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Adapter:
    """A record of how one model is loaded, fed and read.

    Parameters
    ----------
    channels, classes : tuple of str
        Names of the network's input channels and of its logits, in their order.
    load_network : callable
        Returns the network, with the same weights on every call: an `nn.Module` that maps
        (1, channel, *window) to logits (1, class, *window); see `Predictor` for what else it may
        return.
    load_case : callable
        Maps {input: path} to a Case: oriented, resampled, normalised. segxai itself reads masks and
        references, and keeps which files they were.
    criteria : InstanceCriteria
        The class that is explained unless another one is asked for, and what counts as an instance
        of it.
    predict : callable
        `WholeImage()`, `SlidingWindow(size)`, or a function that maps the network, a case and
        criteria to a Predictor, where windows are not laid out as usual or logits need a readout,
        or to Detections, where a model finds instances itself; the criteria's threshold is then the
        smallest score. Any other Prediction will do.
    weights : Path, optional
        The file or folder of the weights, whose sha256 is kept.
    weights_key : str, optional
        Which of the sets of weights in that file was asked for; `load_adapter` fills it in.
    inputs : tuple of str
        Names of a case's files, if they differ from its channels: a picture is one file with three.
    layer : str, optional
        Default layer of CAM methods.
    mirror_axes : tuple of int
        Spatial axes along which test-time augmentation (--tta) mirrors the input.
    embedded_case : callable
        The case that runs when no image is given.
    embedded_options : mapping
        Options for the embedded case, by name, if it would take long otherwise.
    check_objects : callable
        Maps a case and the objects in it (predicted, or the reference) to warnings.
    notes : tuple of str
        What a user should know before a run.
    summary : str
        What it explains, on one line, for `segxai check`.
    origin : mapping
        Where the model came from, in place of the plugin's package, if it has no plugin.
    name : str
        Name on the command line: that of the plugin's entry point, which loading it fills in.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    load_network: Callable[[], nn.Module]
    load_case: LoadCase
    criteria: InstanceCriteria
    predict: Predict = WholeImage()  # noqa: RUF009 - frozen
    weights: Path | None = None
    weights_key: str | None = None
    inputs: tuple[str, ...] = ()
    layer: str | None = None
    mirror_axes: tuple[int, ...] = ()
    embedded_case: Callable[[], Case] = _no_embedded_case
    embedded_options: Mapping[str, Any] = field(default_factory=dict)
    check_objects: CheckObjects = _no_warnings
    notes: tuple[str, ...] = ()
    summary: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files of a case, in their order."""
        return self.inputs or self.channels

    def read(self, files: Mapping[str, Path], reference: Path | None = None) -> Case:
        """Load a case with its sources, and an expert's reference; see `read_case`."""
        return read_case(self.load_case, files, reference)

    def prediction(self, network: nn.Module, case: Case, criteria: InstanceCriteria) -> Prediction:
        """Predict a case by the adapter's `predict`, in inference mode.

        Raises
        ------
        SegxaiError
            If the network fails. What the adapter's own code raises is left alone.
        """
        where = f"on the case's image of shape {case.image.shape}"
        failures = failures_of_network(where, only_in_modules=True)
        with torch.no_grad(), frozen(network), exact_arithmetic(), failures:
            found = self.predict(network, case, criteria)
        if isinstance(found, Predictor):
            return Semantic(found, self.classes)
        return replace(found, known=self.classes) if isinstance(found, Detections) else found
