"""Wrapping: an adapter for any network, made at run time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from segxai.errors import SegxaiError, unknown_name
from segxai.load.normalisation import find_normalisation
from segxai.load.reader import LoadCase, Reader, loader
from segxai.models.inspection import Trial
from segxai.models.trial_run import Probe, probe_whole, probe_window
from segxai.plugins.adapter import Adapter
from segxai.segment.inference_mode import uncompiled
from segxai.segment.prediction import SlidingWindow, WholeImage
from segxai.segment.weights import in_float32, tensors_sha256
from segxai.types import Activation, Case, InstanceCriteria

BACKGROUND = ("background", "bg", "rest", "other", "void", "unlabelled", "unlabeled", "ignore")


def wrap(
    network: nn.Module,
    *,
    channels: Sequence[str],
    classes: Sequence[str] | None = None,
    window: Sequence[int] | None = None,
    overlap: float = 0.25,
    target: str | None = None,
    activation: Activation = "softmax",
    normalise: str = "none",
    spacing_mm: float | None = None,
    shape: Sequence[int] | None = None,
    layer: str | None = None,
    output: str | int | None = None,
    align_corners: bool = False,
    name: str | None = None,
) -> Adapter:
    """Wrap a network in an adapter, which segxai uses like the adapter of a plugin.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, *window) to logits (1, class, *window), alone or among other outputs, at
        full resolution or at a half to a 32nd of it. Converted to float32 if necessary.
    channels : sequence of str
        Names of its input channels, in their order. Three named red, green and blue, in any order,
        are filled by one picture.
    classes : sequence of str, optional
        Names of its logits, in their order. If not given they are counted by a trial run, and
        called "class 0", "class 1" ...
    window, overlap
        Of the sliding window; without one, the whole image goes through the network at once.
    target : str, optional
        The class that is explained unless another one is asked for; by default the last one whose
        name does not stand for background.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities; a single logit always takes the sigmoid.
    normalise : str
        See `find_normalisation`: by default the network gets the numbers in the files.
    spacing_mm : float, optional
        Volumes are reoriented to RAS and resampled to this voxel size.
    shape : sequence of int, optional
        Shape of the images, for counting classes and trying sizes where there is no window.
    layer : str, optional
        Default layer of CAM methods.
    output : str or int, optional
        Name or number of the tensor of logits, where the network returns several; see `logits_of`.
    align_corners : bool
        Whether coarse logits are interpolated with aligned corners.
    name : str, optional
        Name for tables and file names; by default the name of the network's class.

    Raises
    ------
    SegxaiError
        If names, sizes and network do not fit together.

    Examples
    --------
    >>> import torch, segxai
    >>> network = torch.nn.Conv3d(2, 3, kernel_size=3, padding=1)
    >>> adapter = segxai.wrap(network, channels=["flair", "t1"], window=(16, 16, 16))
    >>> adapter.classes, adapter.criteria.class_index
    (('class 0', 'class 1', 'class 2'), 2)
    """
    network, names = uncompiled(network), distinct(channels, "channel")
    reader = Reader(names, find_normalisation(normalise, len(names)), spacing_mm)
    made = Said(classes, window, overlap, target, activation, layer, output, align_corners)
    adapter = make_adapter(network, names, loader(reader.read), made, shape=shape)
    return replace(adapter, name=name or adapter.name)


@dataclass(frozen=True)
class Said:
    """What an author says about a network; see `wrap`."""

    classes: Sequence[str] | None = None
    window: Sequence[int] | None = None
    overlap: float = 0.25
    target: str | None = None
    activation: Activation = "softmax"
    layer: str | None = None
    output: str | int | None = None
    align_corners: bool = False
    divisor: int | None = None


def make_adapter(
    network: nn.Module,
    channels: tuple[str, ...],
    load_case: LoadCase,
    said: Said,
    *,
    shape: Sequence[int] | None = None,
) -> Adapter:
    """Build the adapter of `wrap`, for images that are read in any way."""
    notes = in_float32(network)
    found = None if said.divisor else _probe(network, channels, said, shape)
    classes, about_classes = _named(said.classes, found)
    target, about_target = _target(said.target, classes)
    return Adapter(
        name=type(network).__name__,
        channels=channels,
        classes=classes,
        load_network=lambda: network,
        load_case=load_case,
        criteria=InstanceCriteria(target, threshold=None),
        predict=_predict(said, found),
        layer=said.layer,
        embedded_case=no_images,
        notes=(*notes, *about_classes, *about_target, *_about_sizes(found)),
        origin=_origin(network),
        summary="a model of your own",
    )


def _predict(said: Said, found: Probe | None) -> WholeImage | SlidingWindow:
    how = (said.activation, said.output, said.align_corners)
    if said.window is None:
        return WholeImage(found.divisor if found else said.divisor or 1, *how)
    return SlidingWindow(tuple(said.window), said.overlap, *how)


def no_images() -> Case:
    """Raise SegxaiError: your own model has no embedded case."""
    raise SegxaiError("a model of your own has no embedded case; give it images")


def _probe(
    network: nn.Module,
    channels: Sequence[str],
    said: Said,
    shape: Sequence[int] | None,
) -> Probe | None:
    """Do a trial run; None where there is no size to try, and no need to."""
    network = Trial(network, said.output, len(said.classes) if said.classes else None)
    if said.window is not None:
        return probe_window(network, channels, said.window)
    if shape is not None:
        return probe_whole(network, channels, shape)
    if said.classes is None:
        raise SegxaiError(
            "classes can only be counted with a window or an image's shape; give one of classes, "
            "window and shape"
        )
    return None


def _named(
    classes: Sequence[str] | None, found: Probe | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes, and notes on them for the user."""
    if classes is None:
        count = found.classes if found else 0
        names = tuple(f"class {number}" for number in range(count))
        what = f"{count} classes" if count > 1 else "1 class"
        return names, (f"the model has {what} (counted in a trial run): name them with --classes",)
    names = distinct(classes, "class")
    if found is None or found.classes == len(names):
        return names, ()
    hint = "name each logit, in their order, with --classes"
    if found.classes == 1:
        hint = "its sigmoid is the probability of one class: name that one alone"
    raise SegxaiError(
        f"the model returns {found.classes} logit{'s' * (found.classes != 1)} for each voxel, but "
        f"{len(names)} classes are named: {', '.join(names)}; {hint}"
    )


def distinct(names: Sequence[str], kind: str) -> tuple[str, ...]:
    """Return the names; raise SegxaiError if there are none, or if one is given twice."""
    kinds = {"channel": "channels", "class": "classes"}[kind]
    found = tuple(names)
    if isinstance(names, str) or not found or not all(found):
        raise SegxaiError(f"{kinds} {names!r}: give one name for each {kind}")
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise SegxaiError(f"the {kind} {twice!r} is named twice in {', '.join(found)}")
    return found


def _target(target: str | None, classes: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """Choose the class that is explained by default, with a note if that is a guess."""
    if target is not None:
        if target not in classes:
            raise unknown_name("class", target, classes)
        return classes.index(target), ()
    candidates = [name for name in classes if name.lower() not in BACKGROUND] or list(classes)
    chosen = classes.index(candidates[-1])
    if len(candidates) == 1:
        return chosen, ()
    return chosen, (f"the default class is the last one: {candidates[-1]}",)


def _about_sizes(found: Probe | None) -> tuple[str, ...]:
    if found is None or found.divisor == 1:
        return ()
    return (
        f"the model takes sizes that are multiples of {found.divisor}: an image of other sizes "
        "is padded with 0 at its end",
    )


def _origin(network: nn.Module) -> dict[str, Any]:
    """Describe the origin of a network that only exists in somebody's program."""
    kind = type(network)
    return {
        "name": f"{kind.__module__}.{kind.__qualname__}",
        "package": "a network in Python",
        "version": "unknown",
        "tensors_sha256": tensors_sha256(network),
    }
