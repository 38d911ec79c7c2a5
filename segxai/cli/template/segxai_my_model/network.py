"""The network and its weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from segxai import load_weights

CHANNELS = ("t1", "t2")  # REPLACE: your input channels, in the network's order
CLASSES = ("background", "blob")  # REPLACE: your classes, in the order of the logits


class Network(nn.Module):
    """REPLACE with your own: (1, channel, x, y, z) to logits (1, class, x, y, z), no softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(len(CHANNELS), 8, 3, padding=1)
        self.active = nn.ReLU()
        self.logits = nn.Conv3d(8, len(CLASSES), 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute one logit for each class and voxel."""
        return self.logits(self.active(self.features(image)))


def load_network(checkpoint: Path | None, weights_key: str | None) -> nn.Module:
    """Load the network with a user's weights or its own; the same weights on every call."""
    if checkpoint is not None:
        return load_weights(Network(), checkpoint, key=weights_key)
    # REPLACE with `load_weights(Network(), Path(__file__).parent / "weights.safetensors")`.
    return stand_in_weights(Network())


def stand_in_weights(network: Network) -> Network:
    """Set weights by hand: a blob is bright in T2 and dark in T1. DELETE when you have yours."""
    generator = torch.Generator().manual_seed(0)
    contrast = torch.tensor([-0.5, 1.0])[:, None, None, None] / 27  # over 3 x 3 x 3 voxels
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        network.features.weight[0] += contrast
        network.logits.weight[1, 0] += 4 / 27
        network.logits.get_parameter("bias")[1] -= 3
    return network
