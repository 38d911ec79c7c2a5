"""The adapter: a record of functions, by which an author tells segxai how to use a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from torch import nn

from segxai.errors import SegxaiError, unknown_name
from segxai.instances import InstanceCriteria
from segxai.segment.detections import Detections
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout, sliding_window, whole_image
from segxai.types import Activation, Case


def _no_embedded_case() -> Case:
    raise SegxaiError("this plugin has no embedded case; give it images")


def _no_labels(path: Path, case: Case) -> Int[np.ndarray, "*grid"]:
    raise SegxaiError("this plugin reads no masks; leave out --instances MASK")


def _no_warnings(case: Case, objects: Bool[np.ndarray, "*grid"]) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Adapter:
    """A record of how one kind of model is loaded, fed and read.

    Parameters
    ----------
    name : str
        Name on the command line.
    channels, classes : tuple of str
        Names of the network's input channels and of its logits, in their order.
    load_network : callable
        Maps a checkpoint's path, or None for the plugin's own weights, to an `nn.Module` that
        maps (1, channel, *window) to logits (1, class, *window); see `Predictor` for what else it
        may return.
    load_case : callable
        Maps {input: path} and a reference's path or None to a Case: oriented, resampled,
        normalised.
    load_labels : callable
        Maps the path of an integer mask and a Case to the mask on the case's grid.
    embedded_case : callable
        The case that runs when no image is given.
    weights : callable
        Maps a checkpoint's path or None to the file or folder of weights, whose sha256 is kept;
        None where there is none.
    target_class : str
        The class that is explained unless another one is asked for.
    inputs : tuple of str
        Names of a case's files, if they differ from its channels: a picture is one file with three.
    for_checkpoint : callable, optional
        Maps a checkpoint's path to the adapter of its model, where a checkpoint decides more than
        weights.
    threshold, min_volume_mm3, connectivity
        What counts as an instance, see `segxai.instances.InstanceCriteria`.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities; "sigmoid" for independent (multi-label) classes.
    window : tuple of int, optional
        Size of the sliding window; None feeds the whole image.
    overlap : float
        Overlap of neighbouring windows, as a share of their size.
    divisor : int
        A whole image is padded at its end to a multiple of it.
    mirror_axes : tuple of int
        Spatial axes along which test-time augmentation (--tta) mirrors the input.
    predictor : callable, optional
        Maps the network and a case to a Predictor, where windows are not laid out as usual, or
        logits need a readout.
    detect : callable, optional
        Maps the network, a case and criteria to Detections, where a model finds instances itself;
        the criteria's threshold is the smallest score.
    layer : str, optional
        Default layer of CAM methods.
    check_objects : callable
        Maps a case and the objects in it (predicted, or the reference) to warnings.
    notes : tuple of str
        What a user should know before a run.
    origin : mapping
        Where the model came from, in place of the plugin's package, if it has no plugin.
    embedded_options : mapping
        Options for the embedded case, by name, if it would take long otherwise.
    summary : str
        What it explains, on one line, for `segxai check`.
    """

    name: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    load_network: Callable[[Path | None], nn.Module]
    load_case: Callable[[Mapping[str, Path], Path | None], Case]
    target_class: str
    load_labels: Callable[[Path, Case], Int[np.ndarray, "*grid"]] = _no_labels
    embedded_case: Callable[[], Case] = _no_embedded_case
    weights: Callable[[Path | None], Path | None] = lambda checkpoint: checkpoint
    inputs: tuple[str, ...] = ()
    for_checkpoint: "Callable[[Path], Adapter] | None" = None
    threshold: float | None = 0.5
    min_volume_mm3: float = 0.0
    connectivity: int = 2
    activation: Activation = "softmax"
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    divisor: int = 1
    mirror_axes: tuple[int, ...] = ()
    predictor: Callable[[nn.Module, Case], Predictor] | None = None
    detect: Callable[[nn.Module, Case, InstanceCriteria], Detections] | None = None
    layer: str | None = None
    check_objects: Callable[[Case, Bool[np.ndarray, "*grid"]], Sequence[str]] = _no_warnings
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    embedded_options: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files of a case, in their order."""
        return self.inputs or self.channels

    def of(self, checkpoint: Path | None) -> "Adapter":
        """Return the adapter for a checkpoint: this one, unless checkpoints decide more."""
        if checkpoint is None or self.for_checkpoint is None:
            return self
        return self.for_checkpoint(checkpoint)

    def predict_with(self, network: nn.Module, case: Case) -> Predictor:
        """Build the predictor: the network with its windows on the case's grid."""
        if self.predictor is not None:
            return self.predictor(network, case)
        layout = self.layout(case.grid.shape)
        return Predictor(network, layout, activation=self.activation)

    def layout(self, shape: Sequence[int]) -> Layout:
        """Lay out the windows for an image of this shape."""
        if self.window is None:
            return whole_image(shape, self.divisor)
        return sliding_window(shape, self.window, self.overlap)

    def criteria(
        self,
        class_name: str | None = None,
        threshold: float | None = None,
        min_volume_mm3: float | None = None,
        class_index: int | None = None,
    ) -> InstanceCriteria:
        """Return what counts as an instance: the adapter's own values, unless others are given.

        Raises
        ------
        SegxaiError
            If the class is not known, the threshold not in (0, 1) or the volume negative.
        """
        level = self.threshold if threshold is None else threshold
        volume = self.min_volume_mm3 if min_volume_mm3 is None else min_volume_mm3
        if level is not None and not 0 < level < 1:
            raise SegxaiError(f"threshold {level:g} is not a probability between 0 and 1")
        if not volume >= 0:
            raise SegxaiError(f"minimum volume {volume:g} mm3: give 0 or more")
        index = self._class_index(class_name, class_index)
        return InstanceCriteria(index, level, volume, self.connectivity)

    def _class_index(self, name: str | None, index: int | None) -> int:
        """Find the class that is explained, from its name or its number."""
        if index is None:
            name = name or self.target_class
            if name not in self.classes:
                raise unknown_name("class", name, self.classes)
            return self.classes.index(name)
        if name is not None:
            raise SegxaiError(f"--class {name} and --class-index {index}: give one of them")
        if not 0 <= index < len(self.classes):
            raise SegxaiError(f"no class {index}; known: 0 to {len(self.classes) - 1}")
        return index
