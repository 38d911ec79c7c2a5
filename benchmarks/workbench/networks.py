"""Networks: those of the paper, built as its scripts build them, and segxai's embedded one.

Weights are random and seeded: what a row costs does not depend on them. Batch statistics are random
too, so that a frozen batch norm is more than the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.networks.nets import DynUNet, SwinUNETR, UNet
from segxai_ms_lesion.network import load_unet
from torch import Tensor, nn

from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image


@dataclass(frozen=True)
class Subject:
    """A network that is measured.

    Parameters
    ----------
    title : str
        Name to print.
    build : callable
        Builds the network.
    patch : int
        Voxels along each axis of the cube that it takes.
    local : bool
        Whether a row keeps to a box; instance normalisation spreads it over the patch.
    """

    title: str
    build: Callable[[], nn.Module]
    patch: int
    local: bool


def unet(*channels: int) -> nn.Module:
    """Build the published U-Net: batch norm, strides of 2, no residual units."""
    return UNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=0,
        norm="batch",
    )


def dynunet(*filters: int) -> nn.Module:
    """Build nnU-Net as the published scripts set it: instance norm, residual blocks."""
    levels = len(filters)
    return DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        kernel_size=(3,) * levels,
        strides=(1, *(2,) * (levels - 1)),
        upsample_kernel_size=(2,) * (levels - 1),
        filters=filters,
        norm_name="instance",
        res_block=True,
    )


def swin(feature_size: int) -> nn.Module:
    """Build Swin UNETR with MONAI's other defaults; MONAI needs einops for it."""
    return SwinUNETR(in_channels=2, out_channels=2, feature_size=feature_size)


SUBJECTS = {
    "unet": Subject("U-Net of the paper, 32 to 512", lambda: unet(32, 64, 128, 256, 512), 96, True),
    "embedded": Subject("embedded U-Net, 16 to 128", lambda: load_unet(None), 96, True),
    "dynunet": Subject("DynUNet, 16 32 64", lambda: dynunet(16, 32, 64), 96, False),
    "swin24": Subject("Swin UNETR, 24", lambda: swin(24), 96, False),
    "swin12": Subject("Swin UNETR, 12, at 64^3", lambda: swin(12), 64, False),
    # To try a script in seconds, and for the tests.
    "tiny": Subject("small U-Net, 4 to 16", lambda: unet(4, 8, 16), 24, True),
    "tinydyn": Subject("small DynUNet, 4 8 8", lambda: dynunet(4, 8, 8), 16, False),
}
REAL = tuple(name for name in SUBJECTS if not name.startswith("tiny"))


@dataclass(frozen=True)
class Setting:
    """A network on a device, the patch that it sees, and its predictor without windows."""

    subject: Subject
    network: nn.Module
    predictor: Predictor
    image: Tensor


def setting(name: str, device: str = "cpu", patch: int | None = None) -> Setting:
    """Build a subject by its name, and its input; on a patch of another size if one is given."""
    subject = SUBJECTS[name]
    torch.manual_seed(0)
    network = subject.build()
    if name != "embedded":
        randomise_statistics(network)
    shape = (patch or subject.patch,) * 3
    image = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    network = network.eval().requires_grad_(False).to(device)
    return Setting(subject, network, Predictor(network, whole_image(shape)), image.to(device))


def randomise_statistics(network: nn.Module) -> None:
    """Set batch statistics at random, as after some training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
