"""The embedded network: a small 2D U-Net that finds coins, with logits at a quarter of the size."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from segxai import load_weights

CLASSES = ("background", "coin")
WIDTHS = (8, 16, 32, 48)
DIVISOR = 8  # of the input's sizes: what the deepest features stand for
STRIDE = 4  # of the logits
# Of the part of the photograph that it was trained on, in grey values from 0 to 255.
MEAN, STANDARD_DEVIATION = 99.0, 52.0


class CoinNetwork(nn.Module):
    """A network from a grey picture to logits of background and coin, (1, 2, y / 4, x / 4).

    It has only batch norm and convolutions, so that a row keeps to its receptive field.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third, last = WIDTHS
        self.down = nn.Sequential(
            _block(1, first), _block(first, second, stride=2), _block(second, third, stride=2)
        )
        self.shallow = _block(third, third)
        self.deep = nn.Sequential(_block(third, last, stride=2), _block(last, last))
        self.joined = _block(third + last, third)
        self.logits = nn.Conv2d(third, len(CLASSES), 1)

    def forward(self, image: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 2 _ _"]:
        """Compute the logits; both sizes must be divisible by 8."""
        shallow = self.shallow(self.down(image))
        deep = functional.interpolate(self.deep(shallow), scale_factor=2.0, mode="nearest")
        logits: Tensor = self.logits(self.joined(torch.cat([shallow, deep], dim=1)))
        return logits


def load_coin_network(checkpoint: Path | None = None, weights_key: str | None = None) -> nn.Module:
    """Load the network in eval mode, with the embedded weights or those of a checkpoint.

    Raises
    ------
    SegxaiError
        If the checkpoint cannot be read, or belongs to another network.
    """
    path = checkpoint or weights_file()
    return load_weights(CoinNetwork(), path, "the coin network", key=weights_key).eval()


def weights_file() -> Path:
    """Return the path of the embedded weights."""
    return Path(__file__).parent / "weights" / "coins.safetensors"


def _block(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
