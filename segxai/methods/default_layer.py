"""The layer of a CAM method that nobody named: chosen by a trial on the image."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, option, warn
from segxai.geometry import Box
from segxai.methods.activations import is_activated
from segxai.methods.cam_weights import heat_of
from segxai.methods.layer_layout import LayerLayout, find_layout
from segxai.methods.layers import Shape, named_layers, shapes_at_another_size, tensors_in
from segxai.rows.scores import cotangents
from segxai.rows.window_pass import OwnMemory, Voxels
from segxai.segment.failures import failures_of_network
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.types import Instance

FEW = 0.1  # suspect coefficients, as a share
GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d)  # their output weighs features


@dataclass
class Candidate:
    """A layer that could be the one, and what a trial showed of it."""

    name: str
    output: Tensor
    version: int  # of the output: it grows where something writes into it
    layout: LayerLayout
    is_activation: bool
    suspect: float = 0.0
    has_heat: bool = False

    def look_at(self, gradient: Tensor) -> None:
        """Keep what the gradient of the score at the layer shows."""
        maps = self.layout.maps(self.output.detach()), self.layout.maps(gradient.detach())
        heat = heat_of(*maps, localised=True)
        self.suspect, self.has_heat = heat.suspect, bool(heat.values.any())


def choose_layer(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], target: Instance | int
) -> str:
    """Choose the layer of a CAM method by a trial on the image, and say which.

    It is the last activation before the logits of which at most a tenth of the coefficients are
    suspect and whose heat map is not 0. Outputs that are nowhere negative count as activations,
    whatever made them. If there is none, it is the last other layer of that kind, and else the one
    with the fewest suspect coefficients.

    Parameters
    ----------
    target : Instance or int
        What is explained, or the class of it: then the trial explains the voxels of the class in
        the first window that has any, from the middle of the image outwards.

    Warns
    -----
    SegxaiWarning
        Which layer it is.

    Raises
    ------
    SegxaiError
        If no layer has a heat map, so that the user must name one.
    """
    with frozen(predictor.network), exact_arithmetic():
        window, voxels, index = _trial_voxels(predictor, image, target)
        tried = _try_layers(predictor, image, window, voxels, index)
    hot = [one for one in tried if one.has_heat]
    if not hot:
        raise SegxaiError(
            f"no layer of the network has a heat map: name one with {option('layer')}"
        )
    few = [one for one in hot if one.suspect <= FEW]
    activations = [one for one in few if one.is_activation]
    chosen = (activations or few or [min(hot, key=lambda one: one.suspect)])[-1]
    kind = "activation" if activations else "layer"
    why = f"the last {kind} before the logits with" if few else "of all layers the one with the"
    warn(
        f"the layer is {chosen.name!r}, {why} few{'' if few else 'est'} suspect coefficients "
        f"({chosen.suspect:.0%} in a trial); name another with {option('layer')}"
    )
    return chosen.name


def _trial_voxels(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], target: Instance | int
) -> tuple[Box, Voxels, int]:
    """Find a window to try, the output voxels in it that are explained, and their class.

    Voxels are those of the window's own logits.
    """
    windows, shape = predictor.layout.windows, predictor.layout.shape
    if isinstance(target, Instance):
        window = max(windows, key=lambda one: int(one.contains(target.row_voxels).sum()))
        inner = target.row_voxels[window.contains(target.row_voxels)]
        return window, window.inside(shape).local(inner), target.class_index
    middle = np.array(shape) / 2
    outwards = sorted(
        windows, key=lambda one: float(np.linalg.norm(one.start + np.array(one.size) / 2 - middle))
    )
    for window in outwards:
        predicted = _predicted(predictor, image, window, target)
        if predicted.any():
            return window, np.argwhere(predicted), target
    logits = _window_logits(predictor, image, outwards[0])[0, target]
    surest = logits >= torch.quantile(logits.flatten()[:: -(-logits.numel() // 2**20)], 0.99)
    return outwards[0], np.argwhere(surest.cpu().numpy()), target


def _predicted(
    predictor: Predictor, image: Tensor, window: Box, class_index: int
) -> Bool[np.ndarray, "*own"]:
    """Mark where the class has the largest logit, or a positive one if it is independent."""
    logits = _window_logits(predictor, image, window)[0]
    if len(logits) == 1 or predictor.activation == "sigmoid":
        return (logits[class_index] > 0).cpu().numpy()
    return (logits.argmax(dim=0) == class_index).cpu().numpy()


def _window_logits(predictor: Predictor, image: Tensor, window: Box) -> Tensor:
    with torch.no_grad():
        return predictor.window_logits(image[window.inside(predictor.layout.shape).index], window)


def _try_layers(
    predictor: Predictor, image: Tensor, window: Box, voxels: Voxels, class_index: int
) -> list[Candidate]:
    """Look at all layers in one forward and one backward pass; return them as they finished."""
    layers = named_layers(predictor.network)
    crop = image[window.inside(predictor.layout.shape).index].detach().clone()
    shapes = shapes_at_another_size(predictor.network, layers, crop, window.size)
    leaf = crop.requires_grad_()
    with (
        torch.enable_grad(),
        OwnMemory(),
        _looking_at(layers, window.size, shapes) as (runs, candidates),
    ):
        logits = predictor.window_logits(leaf, window)
        chosen = logits[0][(slice(None), *torch.from_numpy(voxels.T))].T  # voxel class
        weights = cotangents("logit", chosen.cpu(), class_index, predictor.activation)
        total = (chosen * weights.to(chosen)).sum()
    tried = _once_each(candidates, runs)
    while tried and _are_logits(tried[-1], logits.shape[1]):
        tried.pop()
    for one in tried:
        one.output.register_hook(one.look_at)
    with failures_of_network("in its backward pass"):
        torch.autograd.grad(total, leaf, allow_unused=True)
    return tried


def _once_each(candidates: list[Candidate], runs: Counter[str]) -> list[Candidate]:
    """Leave out layers that run again, whose output was overwritten, or that return another's."""
    kept: dict[int, Candidate] = {}
    for one in candidates:
        if runs[one.name] == 1 and one.output._version == one.version:
            kept.setdefault(id(one.output), one)  # a container returns what its last layer did
    return list(kept.values())


def _are_logits(one: Candidate, classes: int) -> bool:
    """Return whether the output of the last layer to run is the logits, and not features."""
    return one.layout.maps(one.output).shape[1] == classes and not is_activated(one.output)


@contextmanager
def _looking_at(
    layers: Mapping[str, nn.Module], window: Shape, shapes: Mapping[str, list[Shape]]
) -> Iterator[tuple[Counter[str], list[Candidate]]]:
    """Collect the layers that may be chosen while they run, and how often each runs."""
    runs: Counter[str] = Counter()
    candidates: list[Candidate] = []

    def look(name: str, layer: nn.Module, output: Any) -> None:
        runs[name] += 1
        found = _candidate(name, layer, output, window, shapes.get(name))
        if found is not None:
            candidates.append(found)

    handles = [
        layer.register_forward_hook(
            lambda layer, _inputs, output, name=name: look(name, layer, output)
        )
        for name, layer in layers.items()
    ]
    try:
        yield runs, candidates
    finally:
        for handle in handles:
            handle.remove()


def _candidate(
    name: str, layer: nn.Module, output: Any, window: Shape, other: list[Shape] | None
) -> Candidate | None:
    """Return a layer that may be chosen: its output is several maps over the space of the image."""
    tensors = tensors_in(output)
    if len(tensors) != 1 or not tensors[0].requires_grad or isinstance(layer, GATES):
        return None
    (tensor,) = tensors
    try:
        layout = find_layout(layer, tensor.shape, window, lambda: other[0] if other else None)
    except SegxaiError:  # it can still be named, with its layout
        return None
    maps = layout.maps(tensor.detach())
    if maps.shape[1] == 1 or maps[0, 0].numel() == 1:
        return None
    is_activation = is_activated(tensor) or bool((maps >= 0).all())
    return Candidate(name, tensor, tensor._version, layout, is_activation)
