"""The adapter: what segxai must know of a model. A record of functions, composed by its author."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from torch import nn

from segxai.errors import SegxaiError, unknown_name
from segxai.instances import Rule
from segxai.segmentation import Layout, sliding_window, whole_image
from segxai.types import Case, Instance


def _no_embedded_case() -> Case:
    raise SegxaiError("this plugin has no embedded case; give it images")


def _no_labels(path: Path, case: Case) -> Int[np.ndarray, "*grid"]:
    raise SegxaiError("this plugin reads no masks; leave out --instances MASK")


def _no_warnings(case: Case, objects: Bool[np.ndarray, "*grid"]) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Adapter:
    """How one kind of model is loaded, fed and read.

    Parameters
    ----------
    name : str
        What the command line takes.
    channels, classes : tuple of str
        Names of the network's input channels and of its logits, in their order.
    load_network : callable
        Maps a checkpoint's path, or None for the plugin's own weights, to an `nn.Module` that
        maps (1, channel, *window) to logits (1, class, *window).
    load_case : callable
        Maps {channel: path} and a reference's path or None to a Case: oriented, resampled,
        normalised.
    load_labels : callable
        Maps the path of an integer mask and a Case to the mask on the case's grid.
    embedded_case : callable
        The case that runs when no image is given.
    weights : callable
        Maps a checkpoint's path or None to the file of weights, whose sha256 is kept; None where
        there is no file.
    target_class : str
        The class that is explained unless another one is asked for.
    threshold, min_volume_mm3, connectivity
        What counts as an instance, see `segxai.instances.Rule`.
    window : tuple of int, optional
        Size of the sliding window; None feeds the whole image.
    overlap : float
        Of neighbouring windows, as a share of their size.
    layer : str, optional
        Default layer of CAM methods.
    check_objects : callable
        Maps a case and the objects in it (predicted, or the reference) to warnings.
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
    threshold: float = 0.5
    min_volume_mm3: float = 0.0
    connectivity: int = 2
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    layer: str | None = None
    check_objects: Callable[[Case, Bool[np.ndarray, "*grid"]], Sequence[str]] = _no_warnings
    summary: str = ""

    def layout(self, shape: Sequence[int]) -> Layout:
        """The windows for an image of this shape."""
        if self.window is None:
            return whole_image(shape)
        return sliding_window(shape, self.window, self.overlap)

    def rule(
        self,
        class_name: str | None = None,
        threshold: float | None = None,
        min_volume_mm3: float | None = None,
    ) -> Rule:
        """What counts as an instance: the adapter's own choice, unless told otherwise.

        Raises
        ------
        SegxaiError
            If the class is not known, the threshold not in (0, 1) or the volume negative.
        """
        name = class_name or self.target_class
        if name not in self.classes:
            raise unknown_name("class", name, self.classes)
        level = self.threshold if threshold is None else threshold
        volume = self.min_volume_mm3 if min_volume_mm3 is None else min_volume_mm3
        if not 0 < level < 1:
            raise SegxaiError(f"threshold {level:g} is not a probability between 0 and 1")
        if not volume >= 0:
            raise SegxaiError(f"minimum volume {volume:g} mm3: give 0 or more")
        return Rule(self.classes.index(name), level, volume, self.connectivity)

    def class_name(self, instance: Instance) -> str:
        """The name of the instance's class."""
        return self.classes[instance.class_index]
