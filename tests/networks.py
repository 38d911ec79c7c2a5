"""Networks, images and instances that several test modules share."""

import numpy as np
import torch
from monai.networks.nets import UNet

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


def net2d():
    return seeded(Net2d())


def image_of(shape, seed=0):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def block(shape, start, size, **more):
    """The instance of a block of voxels."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return Instance.from_mask(mask, **more)
