"""Layers: finding the one whose feature maps a CAM method uses."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, unknown_name
from segxai.segment.inference_mode import frozen
from segxai.segment.logits import logits_of
from segxai.segment.predictor import Predictor

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Find the layer of this name, as in `network.named_modules()`.

    Raises
    ------
    SegxaiError
        If there is none; the message names the known layers and the nearest match.
    """
    layers = {known: layer for known, layer in network.named_modules() if known}
    if name not in layers:
        leaves = {known for known, layer in layers.items() if not any(layer.children())}
        raise unknown_name("layer", name, leaves)
    return layers[name]


def default_layer_of(predictor: Predictor, image: Float[Tensor, "1 channel *grid"]) -> str:
    """Find the default layer of a predictor's network, on one of its windows."""
    size = predictor.layout.windows[0].size
    window = image.new_zeros(1, image.shape[1], *size)
    device = next(predictor.network.parameters(), window).device
    with frozen(predictor.network) as network:
        return default_layer(network, window.to(device))


def default_layer(network: nn.Module, window: Float[Tensor, "1 channel *window"]) -> str:
    """Find the last convolution to run that has more output channels than there are classes.

    In most segmentation networks that is the last layer of features before the logits. In one with
    more classes than features it is the last convolution that does not produce the logits.

    Raises
    ------
    SegxaiError
        If the network has no such convolution, so that the user must name a layer.
    """
    order: list[tuple[str, int]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _layer, _inputs, output, name=name: order.append((name, output.shape[1]))
        )
        for name, layer in network.named_modules()
        if isinstance(layer, CONVOLUTIONS)
    ]
    try:
        with torch.no_grad():
            classes = logits_of(network(window)).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    wide = [name for name, channels in order if channels > classes]
    others = [name for name, channels in order if channels != classes]
    if not others:
        raise SegxaiError("no convolution with feature maps found in the network; name a layer")
    return (wide or others)[-1]
