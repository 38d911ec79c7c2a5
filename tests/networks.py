"""Networks, images and instances that several test modules share."""

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import nn

from segxai.types import Instance
from tests.literal import Net2d, seeded


def paper_unet(channels=(32, 64, 128, 256, 512)):
    """The paper's U-Net, with the batch statistics of nothing in particular."""
    return seeded(
        UNet(
            spatial_dims=3,
            in_channels=2,
            out_channels=2,
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=0,
            norm="batch",
        )
    )


def small_unet():
    return paper_unet(channels=(4, 8, 16))


class WritesInPlace(nn.Module):
    """A factor of 2 whose backward pass writes into the cotangent that it gets."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad.clone().mul_(2)

    def forward(self, x):
        return self.Scale.apply(x)


def net2d():
    return seeded(Net2d())


def instance_norm_network():
    """Two channels in 2D to two classes, normalised by each image's own statistics."""
    return seeded(
        nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.InstanceNorm2d(6),
            nn.LeakyReLU(0.1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.InstanceNorm2d(6),
            nn.LeakyReLU(0.1),
            nn.Conv2d(6, 2, 1),
        )
    )


def coarse_network(rank=2, classes=3):
    """Two channels to logits at a quarter of the resolution."""
    torch.manual_seed(0)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        convolution(2, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(6, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(6, classes, 1),
    ).eval()


def untrained(make, *arguments):
    """A network with the weights that torch draws for it."""
    torch.manual_seed(0)
    return make(*arguments).eval()


def logits_of(model, size):
    """What a network makes of a cube of noise in two channels."""
    with torch.no_grad():
        return model(image_of((2, size, size, size)))


class Counting(nn.Module):
    """Counts the forward passes of a network."""

    def __init__(self, network):
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, image):
        self.passes += 1
        return self.network(image)


def image_of(shape, seed=0):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def mask_of(shape, start, size):
    """A block of voxels."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def block(shape, start, size, **more):
    """The instance of a block of voxels."""
    return Instance.from_mask(mask_of(shape, start, size), **more)
