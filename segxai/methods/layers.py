"""Layers: finding one by its name, and what it makes of a window of the image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as trees

from segxai.errors import SegxaiError, unknown_name, warn
from segxai.methods.layer_layout import LayerLayout, find_layout
from segxai.segment.failures import failures_of_network
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor

Shape = tuple[int, ...]
DIVISORS = (1, 2, 4, 8, 16, 32, 64)  # total strides of networks
LARGEST_TRIAL = 2**21  # voxels of a window that is larger only to see which axes grow


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Find the layer of this name, as in `network.named_modules()`.

    Raises
    ------
    SegxaiError
        If there is none; the message names the known layers and the nearest match.
    """
    layers = named_layers(network)
    if name not in layers:
        leaves = {known for known, layer in layers.items() if not any(layer.children())}
        raise unknown_name("layer", name, leaves)
    return layers[name]


def name_of(network: nn.Module, layer: nn.Module) -> str:
    """Return the name of a layer, as in `network.named_modules()`.

    Raises
    ------
    SegxaiError
        If the network does not have this layer.
    """
    for name, known in network.named_modules():
        if known is layer and name:
            return name
    raise SegxaiError(f"the layer, a {type(layer).__name__}, is not one of the network's")


def named_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return all layers by their names.

    Raises
    ------
    SegxaiError
        If there are none, as in a program, which hides them.
    """
    layers = {name: layer for name, layer in network.named_modules() if name}
    if not layers:
        raise SegxaiError(
            "a CAM method needs one of the network's layers, and this network shows none: a "
            "program (TorchScript, torch.export) hides them; give the code that it was made from"
        )
    return layers


@dataclass(frozen=True)
class Features:
    """A layer's output for one window, the gradient of a score there, and how often it ran.

    `position` says which tensor it is, where the layer returns several.
    """

    activations: Tensor
    gradients: Tensor
    position: int
    runs: int


def features_of(name: str, layer: nn.Module, score: Callable[[], Tensor]) -> Features:
    """Compute what a layer makes of a window, and the gradient of a score there.

    Of a layer that runs several times it is the last run. Of one that returns several tensors it is
    the one that the score depends on.

    Parameters
    ----------
    score : callable
        Runs the network on the window, and returns a number.

    Raises
    ------
    SegxaiError
        If the layer does not run, the score does not depend on it, or on several of its tensors.
    """
    with _watched(layer) as runs, torch.enable_grad():
        total = score()
    if not runs:
        raise SegxaiError(f"layer {name!r} does not run when the network predicts: name another")
    leaves = [(place, one) for place, one in enumerate(runs[-1]) if one.requires_grad]
    tensors = [one for _, one in leaves]
    with failures_of_network("in its backward pass"):
        found = torch.autograd.grad(total, tensors, allow_unused=True) if tensors else ()
    used = [(*one, g) for one, g in zip(leaves, found, strict=True) if g is not None]
    if not used:
        raise SegxaiError(f"the logits do not depend on layer {name!r}: name another")
    if len(used) > 1:
        shapes = ", ".join(str(tuple(one.shape)) for _, one, _ in used)
        raise SegxaiError(
            f"layer {name!r} returns {len(used)} tensors that the logits depend on, of shapes "
            f"{shapes}: name the layer within it that makes one of them"
        )
    ((place, activations, gradients),) = used
    return Features(activations.detach(), gradients.detach(), place, len(runs))


@contextmanager
def _watched(layer: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Collect the tensors that a layer returns, for each time that it runs while the block does."""
    runs: list[list[Tensor]] = []

    def look(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        # Copies, because what comes after the layer may write into its output.
        kept = trees.tree_map_only(Tensor, torch.clone, output)
        runs.append(tensors_in(kept))
        return kept

    handle = layer.register_forward_hook(look)
    try:
        yield runs
    finally:
        handle.remove()


def tensors_in(output: Any) -> list[Tensor]:
    """List the tensors in what a layer returns."""
    return [one for one in trees.tree_leaves(output) if isinstance(one, Tensor)]


def layout_of(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    name: str,
    text: str | None = None,
) -> LayerLayout:
    """Find the layout of a layer's output, by a trial on one window of the image.

    Parameters
    ----------
    text : str, optional
        The layout that the user gives, which is checked: see `LayerLayout.of`.

    Raises
    ------
    SegxaiError
        If the output is not what a CAM method needs, or its layout cannot be told.
    """
    layer, window = find_layer(predictor.network, name), predictor.layout.windows[0]
    crop = image[window.inside(predictor.layout.shape).index].detach().clone().requires_grad_()
    with frozen(predictor.network), exact_arithmetic():
        features = features_of(name, layer, lambda: predictor.window_logits(crop, window).sum())
        shape = tuple(features.activations.shape)

        def other() -> Shape | None:
            shapes = shapes_at_another_size(predictor.network, {name: layer}, crop, window.size)
            return shapes[name][features.position] if name in shapes else None

        try:
            if text is not None:
                layout = LayerLayout.of(text).fitted(shape, window.size)
            else:
                layout = find_layout(layer, shape, window.size, other)
        except SegxaiError as error:
            raise SegxaiError(f"layer {name!r}: {error.text}") from error
    if layout.grid and prod(layout.grid) < shape[1]:
        warn(
            f"layer {name!r} returns {shape[1]} tokens: the first {shape[1] - prod(layout.grid)} "
            "are taken for a class token and its like, which lie nowhere in the image"
        )
    return layout


def shapes_at_another_size(
    network: nn.Module,
    layers: Mapping[str, nn.Module],
    image: Float[Tensor, "1 channel *any"],
    window: Sequence[int],
) -> dict[str, list[Shape]]:
    """Find the shapes of layers' outputs in a window of another size; empty if none is taken.

    Half the window's size is tried first, then multiples of 2, 4 ... 64 near it, then twice its
    size, for the largest effect on space at the least cost.
    """
    for size in _other_sizes(window):
        content = functional.interpolate(image.detach(), size)
        shapes: dict[str, list[Shape]] = {}
        try:
            with torch.no_grad(), _shapes_kept(layers, shapes):
                network(content.to(next(network.parameters(), content).device))
        except Exception:  # somebody else's code: whatever it raises on a size it does not take
            continue
        return shapes
    return {}


def _other_sizes(window: Sequence[int]) -> list[Shape]:
    """List sizes that differ from the window's along every axis that is not a single slice."""
    halves = [tuple(-(-n // (2 * d)) * d if n > 1 else 1 for n in window) for d in DIVISORS]
    twice = tuple(2 * n if n > 1 else 1 for n in window)
    sizes = [*halves, twice] if prod(twice) <= LARGEST_TRIAL else halves
    pairs = {size: zip(size, window, strict=True) for size in sizes}
    return [size for size, axes in pairs.items() if all(a != n or n == 1 for a, n in axes)]


@contextmanager
def _shapes_kept(layers: Mapping[str, nn.Module], shapes: dict[str, list[Shape]]) -> Iterator[None]:
    """Keep the shapes of what each layer returns, of its last run."""

    def look(name: str) -> Callable[..., None]:
        def keep(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[name] = [tuple(one.shape) for one in tensors_in(output)]

        return keep

    handles = [layer.register_forward_hook(look(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
