"""Networks that mix all operations, and real ones with random weights: rows are the dense rows."""

import numpy as np
import pytest
import torch
from monai.networks import nets
from monai.networks.blocks import SubpixelUpsample
from torch import nn
from torch.nn import functional

from segxai.rows.cotangent import Cotangent
from tests import literal
from tests.networks import image_of, net2d, small_unet
from tests.rows.rules.boxes import TOLERANCE, agree, box_by, compare

InstanceNorm = nn.modules.instancenorm._InstanceNorm
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Everything(nn.Module):
    """Every kind of operation that keeps to a window, in 2D or 3D."""

    def __init__(self, axes):
        super().__init__()
        conv, self.mode = CONV[axes], {2: "bilinear", 3: "trilinear"}[axes]
        self.first = conv(2, 6, 3, padding=1, padding_mode="reflect")
        self.norm = NORM[axes](6)
        self.pooled = MAX[axes](3, stride=2, padding=1)
        self.deep = conv(6, 6, 3, stride=2, padding=1, padding_mode="replicate", groups=2)
        self.slope = nn.PReLU(6)
        self.average = AVERAGE[axes](2, ceil_mode=True)
        self.subpixel = SubpixelUpsample(axes, 6, 2, scale_factor=2)
        self.up = UP[axes](6, 2, 3, stride=2, padding=1, output_padding=1)
        self.gate = conv(12, 1, 1)
        self.spatial = conv(2, 1, 3, padding=1)
        self.last = conv(8, 3, 3, padding=2, dilation=2)

    def forward(self, image):
        fine = functional.mish(self.norm(self.first(image)))
        pooled = functional.gelu(self.pooled(fine))
        deep = self.slope(self.deep(fine))
        coarse = functional.interpolate(self.average(pooled), scale_factor=2, mode=self.mode)
        both = torch.cat([pooled + deep - 0.5 * coarse.flip(1), deep / (1 + pooled**2)], dim=1)
        gated = pooled * self.gate(both).sigmoid()
        gated = gated.view(1, 2, 3, *gated.shape[2:]).transpose(1, 2).reshape(gated.shape)
        near = functional.interpolate(gated[:, 1:3], size=fine.shape[2:], mode="nearest")
        side = [self.subpixel(gated), self.up(gated), near]
        strongest = torch.where(fine > 0, fine, 0.1 * fine).amax(dim=1, keepdim=True)
        attention = torch.cat([fine.mean(dim=1, keepdim=True), strongest], dim=1)
        fine = fine * self.spatial(attention).sigmoid()
        left, _, right = fine.chunk(3, dim=1)
        end = torch.cat([functional.hardsigmoid(one) for one in (*side, left + right)], dim=1)
        return self.last(end).log_softmax(dim=1)


@pytest.mark.parametrize("shape", [(2, 48, 40), (2, 24, 20, 28)], ids=["2D", "3D"])
def test_everything_together_one_voxel_at_a_time(shape):
    model = literal.seeded(Everything(len(shape) - 1)).requires_grad_(False)
    image, middle = image_of(shape), [n // 2 for n in shape[1:]]
    voxels = torch.tensor([middle, [n - 1 for n in middle], [middle[0] + 2, *middle[1:]]])
    wanted = literal.rows(model, image, voxels.tolist())
    leaf = image.clone().requires_grad_()
    logits, start = model(leaf), voxels.amin(dim=0)
    values = torch.zeros(3, logits.shape[1], *(voxels.amax(dim=0) - start + 1).tolist())
    values[torch.arange(3), 1, *(voxels - start).T] = 1
    grad = Cotangent(values, tuple(start.tolist()), logits.shape)
    (found,) = torch.autograd.grad(logits, leaf, grad)
    assert found.start is not None
    assert found.box.size < tuple(shape[1:])
    assert float((found.dense()[:, 0] - wanted).abs().max() / wanted.abs().max()) <= TOLERANCE


class Mixed(nn.Module):
    """Windowed and dense operations in turn."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4)
        self.second = nn.Conv2d(8, 3, 3, padding=2, dilation=2)

    def forward(self, x):
        fine = functional.silu(self.first(x))
        coarse = functional.interpolate(
            functional.max_pool2d(self.norm(fine), 2), scale_factor=2, mode="nearest"
        )
        return self.second(torch.cat([fine, coarse], dim=1))


@pytest.mark.parametrize(
    ("network", "shape", "on_box"),
    [
        (small_unet, (2, 32, 24, 40), True),
        (net2d, (3, 24, 28), True),
        (lambda: literal.seeded(Mixed()), (2, 12, 16), False),
    ],
)
def test_whole_networks(network, shape, on_box):
    model = network().requires_grad_(False)
    where = [(0.4, 0.2)] * 3
    agree(*compare(model, image_of(shape), box_by(where)), on_box=on_box)


def test_a_row_of_a_unet_fills_its_receptive_field_and_no_more():
    """The box comes from the operations: it holds every non-zero value, and not the whole grid."""
    model, shape = small_unet().requires_grad_(False), (2, 48, 48, 48)
    leaf = image_of(shape).requires_grad_()
    logits = model(leaf)
    one = torch.zeros(1, 2, 1, 1, 1)
    one[0, 1] = 1
    (row,) = torch.autograd.grad(logits, leaf, Cotangent(one, (24, 25, 23), logits.shape))
    used = np.argwhere(row.dense()[0, 0].abs().sum(dim=0).numpy() > 0)
    assert max(row.box.size) < 24
    assert all(row.box.contains(used))


WINDOWED = {
    "unet": (lambda: nets.UNet(3, 2, 2, (4, 8, 16), (2, 2), num_res_units=2, norm="batch"), 3),
    "unet without norm": (lambda: nets.UNet(2, 2, 2, (4, 8), (2,), norm=None, act="swish"), 2),
    "basic unet": (
        lambda: nets.BasicUNet(3, 2, 2, (4, 4, 8, 8, 8, 4), norm="batch", upsample="nontrainable"),
        3,
    ),
    "basic unet, pixel shuffle": (
        lambda: nets.BasicUNet(2, 2, 2, (4, 4, 8, 8, 8, 4), norm="batch", upsample="pixelshuffle"),
        2,
    ),
    "unet++": (
        lambda: First(nets.BasicUNetPlusPlus(2, 2, 2, (4, 4, 8, 8, 8, 4), norm="batch")),
        2,
    ),
    "segresnet": (lambda: nets.SegResNet(3, 4, 2, 2, norm="batch"), 3),
    "vnet": (lambda: nets.VNet(2, 2, 2), 2),
    "dynunet": (
        lambda: nets.DynUNet(
            3, 2, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16], norm_name="batch"
        ),
        3,
    ),
    "highresnet": (
        lambda: nets.HighResNet(
            2, 2, 2, norm_type="batch", layer_params=tuple(HIGHRES), channel_matching="pad"
        ),
        2,
    ),
    "resnet encoder": (
        lambda: nets.FlexibleUNet(2, 2, "resnet18", decoder_channels=SMALL, spatial_dims=2),
        2,
    ),
}
SMALL = (8, 8, 4, 4, 4)
HIGHRES = (
    {"name": "conv_0", "n_features": 4, "kernel_size": 3},
    {"name": "res_1", "n_features": 4, "kernels": (3, 3), "repeat": 1},
    {"name": "res_2", "n_features": 6, "kernels": (3, 3), "repeat": 1},
    {"name": "conv_1", "n_features": 8, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
)
DENSE = {
    "unet, instance norm": (lambda: nets.UNet(3, 2, 2, (4, 8), (2,), num_res_units=1), 3),
    "segresnet, group norm": (lambda: nets.SegResNet(3, 8, 2, 2), 3),
    "attention unet": (lambda: nets.AttentionUnet(3, 2, 2, (4, 8), (2,)), 3),
    "unetr": (
        lambda: nets.UNETR(2, 2, (32, 32), 4, 24, 32, 2, norm_name="batch", spatial_dims=2),
        2,
    ),
    "swin unetr": (lambda: nets.SwinUNETR(2, 2, feature_size=12, spatial_dims=2), 2),
    "squeeze and excitation": (
        lambda: nets.FlexibleUNet(2, 2, "efficientnet-b0", decoder_channels=SMALL, spatial_dims=2),
        2,
    ),
}


class First(nn.Module):
    """The first output of several."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image)[0]


def without_writing_in_place(network):
    """PyTorch's instance norm returns a view, to which MONAI's blocks go on to add in place."""
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(lambda module, inputs, output: output.clone())
    return network


@pytest.mark.parametrize("where", [[(0.5, 0)] * 3, [(0, 0.1)] * 3], ids=["middle", "corner"])
@pytest.mark.parametrize(("make", "axes"), WINDOWED.values(), ids=WINDOWED)
def test_networks_that_keep_rows_on_a_box(make, axes, where):
    model = without_writing_in_place(literal.seeded(make())).requires_grad_(False)
    agree(*compare(model, image_of((2, *[32] * axes)), box_by(where)))


@pytest.mark.parametrize(("make", "axes"), DENSE.values(), ids=DENSE)
def test_networks_that_spread_rows(make, axes):
    model = without_writing_in_place(literal.seeded(make())).requires_grad_(False)
    size = 64 if isinstance(model, nets.SwinUNETR) else 32
    agree(*compare(model, image_of((2, *[size] * axes)), box_by([(0.5, 0)] * 3)), on_box=False)


@pytest.mark.parametrize(
    ("name", "on_box"), [("fcn_resnet50", True), ("lraspp_mobilenet_v3_large", False)]
)
def test_networks_of_torchvision(name, on_box):
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=3)
    model = without_writing_in_place(literal.seeded(model)).requires_grad_(False)
    logits = lambda x: model(x)["out"]  # noqa: E731
    agree(*compare(logits, image_of((3, 48, 40)), box_by([(0.5, 0)] * 3)), on_box=on_box)
