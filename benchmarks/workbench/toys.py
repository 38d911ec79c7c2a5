"""Toys: small segmentation networks of all kinds, random or trained for a moment, by seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout, sliding_window, whole_image

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
ACTIVATIONS = {"relu": nn.ReLU, "leaky": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU}
NORMS = ("instance", "affine", "group", "layer")
STEPS = 25  # of training
BLOBS = 3


@dataclass(frozen=True)
class Kind:
    """What is drawn for a network: its architecture, its image, its windows and its instance."""

    axes: int
    size: int
    channels: int
    width: int
    levels: int
    norm: str
    activation: str
    residual: bool
    trained: bool
    windows: bool
    voxels: int

    @classmethod
    def drawn(cls, generator: np.random.Generator) -> "Kind":
        """Draw a kind at random."""
        axes = int(generator.integers(2, 4))
        sizes = (12, 16) if axes == 3 else (16, 20, 24)
        return cls(
            axes=axes,
            size=int(generator.choice(sizes)),
            channels=int(generator.integers(1, 4)),
            width=int(generator.choice((2, 4, 6))),
            levels=int(generator.integers(1, 3)),
            norm=str(generator.choice(NORMS)),
            activation=str(generator.choice(tuple(ACTIVATIONS))),
            residual=bool(generator.integers(2)),
            trained=bool(generator.integers(2)),
            windows=bool(generator.integers(4) == 0),
            voxels=int(generator.choice((24, 40, 60, 90))),
        )

    def make_norm(self, channels: int) -> nn.Module:
        """Make a normalisation over space of this kind."""
        if self.norm in ("group", "layer"):
            return nn.GroupNorm(2 if self.norm == "group" else 1, channels)
        return INSTANCE_NORMS[self.axes](channels, affine=self.norm == "affine")

    @property
    def layout(self) -> Layout:
        """The whole image, or windows of three quarters of it that overlap by half."""
        shape = (self.size,) * self.axes
        if not self.windows:
            return whole_image(shape)
        return sliding_window(shape, (self.size // 4 * 3 // 2 * 2,) * self.axes, 0.5)


class Block(nn.Module):
    """Two convolutions, each with a normalisation and an activation; perhaps a residual path."""

    def __init__(self, kind: Kind, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[kind.axes]
        self.first = convolution(inputs, outputs, 3, stride, 1)
        self.second = convolution(outputs, outputs, 3, 1, 1)
        self.norms = nn.ModuleList([kind.make_norm(outputs), kind.make_norm(outputs)])
        self.activation = ACTIVATIONS[kind.activation]()
        self.skip = convolution(inputs, outputs, 1, stride) if kind.residual else None

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, channel, *grid) to the same with other channels, perhaps coarser."""
        inner = self.activation(self.norms[0](self.first(values)))
        inner = self.norms[1](self.second(inner))
        return self.activation(inner if self.skip is None else inner + self.skip(values))


class Toy(nn.Module):
    """A U-Net of one or two levels, with two classes."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        width = kind.width
        self.top = Block(kind, kind.channels, width)
        self.deep = Block(kind, width, 2 * width, 2) if kind.levels == 2 else None
        self.up = TRANSPOSED[kind.axes](2 * width, width, 2, 2)
        self.joined = Block(kind, 2 * width, width)
        self.last = CONVOLUTIONS[kind.axes](width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image to logits."""
        fine = self.top(image)
        if self.deep is not None:
            fine = self.joined(torch.cat([fine, self.up(self.deep(fine))], dim=1))
        logits: Tensor = self.last(fine)
        return logits


@dataclass(frozen=True)
class ToyCase:
    """A network with an image and the voxels of an instance."""

    kind: Kind
    predictor: Predictor
    image: Float[Tensor, "1 channel *grid"]
    voxels: Int[np.ndarray, "voxel axis"]


def toy_case(seed: int) -> ToyCase:
    """Draw a network of some kind, train it if it is of a trained kind, and draw an image."""
    generator = np.random.default_rng(seed)
    kind = Kind.drawn(generator)
    torch.manual_seed(seed)
    network = Toy(kind)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) or getattr(module, "affine", False):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    if kind.trained:
        train(network, lambda: scene(kind, generator)[:2])
    image, _, center = scene(kind, generator)
    voxels = np.argwhere(np.ones((kind.size,) * kind.axes, dtype=bool))
    distance = np.square(voxels - center).sum(axis=1)
    nearest = np.sort(np.argsort(distance, kind="stable")[: kind.voxels])
    return ToyCase(kind, Predictor(network.eval(), kind.layout), image, voxels[nearest])


def scene(
    kind: Kind, generator: np.random.Generator
) -> tuple[Float[Tensor, "1 channel *grid"], Bool[Tensor, "1 *grid"], Float[np.ndarray, " axis"]]:
    """Draw noise with a few bright or dark balls, and their mask; also the last ball's centre."""
    shape = (kind.size,) * kind.axes
    image = generator.standard_normal((kind.channels, *shape)).astype(np.float32)
    mask = np.zeros(shape, dtype=bool)
    center = np.zeros(kind.axes)
    for _ in range(BLOBS):
        center = generator.uniform(3, kind.size - 4, kind.axes)
        offsets = np.indices(shape) - center.reshape(-1, *(1,) * kind.axes)
        inside = np.square(offsets).sum(axis=0) < generator.uniform(1.5, 3.5) ** 2
        mask |= inside
        image[:, inside] += generator.uniform(-2, 3, (kind.channels, 1)).astype(np.float32)
    return torch.from_numpy(image)[None], torch.from_numpy(mask)[None], center


def train(network: nn.Module, draw: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Train a network for a moment to find the balls."""
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    weight = torch.tensor([1.0, 5.0])
    for _ in range(STEPS):
        image, mask = draw()
        loss = functional.cross_entropy(network(image), mask.long(), weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
