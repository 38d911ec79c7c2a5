"""Models for fuzzing: one convolution, in two and in three dimensions."""

import torch
from torch import nn


def plane() -> nn.Module:
    """A network of pictures with one channel and two classes."""
    return _filled(nn.Conv2d(1, 2, 3, padding=1))


def volume() -> nn.Module:
    """A network of volumes with one channel and two classes."""
    return _filled(nn.Conv3d(1, 2, 3, padding=1))


def _filled(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for n, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.linspace(-1, 1 + n, parameter.numel()).reshape(parameter.shape))
    return network.eval()
