"""A stranger's plugin: adapters of a tiny network, some with a flaw, a method and an aggregator."""

import os
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from segxai import (
    Adapter,
    Attribution,
    Case,
    Grid,
    InstanceCriteria,
    Method,
    check_varies,
    hookimpl,
    load_volumes,
)

CHANNELS = ("bright", "other")
SHAPE = (20, 18, 16)
BALLS = (((4, 4, 4), 2.3), ((13, 5, 6), 2.1), ((5, 12, 9), 1.8), ((14, 12, 10), 1.6))


class Toy(nn.Module):
    """Logits of two classes: bright balls, and the rest."""

    def __init__(self, axes=3):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.features = convolution(2, 4, 3, padding=1)
        self.active = nn.ReLU()
        self.logits = convolution(4, 2, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
            self.features.weight[0, 0] += 1 / 3**axes
            self.logits.weight[(1, 0, *([1] * axes))] += 8
            self.logits.bias[1] -= 4

    def forward(self, image):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        return self.logits(self.active(self.features(image)))


class Strided(Toy):
    """As many networks: halves and doubles the grid twice, so that it must divide by 4."""

    def forward(self, image):
        small = nn.functional.avg_pool3d(image, 4)
        return super().forward(nn.functional.interpolate(small, scale_factor=4))


class NotANumber(Toy):
    """As a network with damaged weights."""

    def forward(self, image):
        return super().forward(image) * torch.nan


class OutOfMemory(Toy):
    """As a network that is too large for the device."""

    def forward(self, image):
        raise torch.OutOfMemoryError("tried to allocate 1.00 TiB\nand more lines")


def picture(shape=SHAPE, balls=BALLS):
    """Two channels: balls of 1 in a little noise, and the noise of something else."""
    image = np.random.default_rng(0).uniform(0, 0.2, (2, *shape)).astype(np.float32)
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    for centre, radius in balls:
        image[0][np.linalg.norm(voxels - centre[: len(shape)], axis=-1) <= radius] += 0.9
    return image


def bare_case(image):
    shape = image.shape[1:]
    return Case(
        name="made up",
        image=image,
        channels=CHANNELS,
        grid=Grid.unit(shape),
        foreground=np.ones(shape, dtype=bool),
    )


def load_case(files):
    volumes = load_volumes(files, CHANNELS)
    for volume in volumes:
        check_varies(volume)
    grid = volumes[0].grid
    case = Case(
        name=volumes[0].source.name.split(".")[0],
        image=np.stack([volume.data for volume in volumes]),
        channels=CHANNELS,
        grid=grid,
        black=(0.0, 0.0),
        foreground=np.ones(grid.shape, dtype=bool),
    )
    if case.image.min() < -1:
        warnings.warn("values below -1", stacklevel=2)
        case = replace(case, warnings=("the image is dark",))
    return case


def broken_load_case(files):
    raise RuntimeError("a bug of the plugin")


TOY = Adapter(
    channels=CHANNELS,
    classes=("rest", "ball"),
    load_network=Toy,
    load_case=load_case,
    criteria=InstanceCriteria(class_index=1, min_volume_mm3=3),
    layer="active",
    embedded_case=lambda: bare_case(picture()),
    name="toy",
)
ADAPTERS = {
    "toy": TOY,
    "toy_bug": replace(TOY, load_case=broken_load_case),
    "toy_flat": replace(
        TOY,
        load_network=lambda: Toy(axes=2),
        embedded_case=lambda: bare_case(picture(SHAPE[:2])),
    ),
    "toy_full": replace(TOY, load_network=OutOfMemory),
    "toy_nan": replace(TOY, load_network=NotANumber),
    "toy_plain": replace(TOY, embedded_case=Adapter.embedded_case),
    "toy_strided": replace(TOY, load_network=Strided),
}


@hookimpl
def segxai_adapter(name):
    return replace(ADAPTERS[name], name=name)


def attribute_image(predictor, image, instance, options, context):
    """The image itself, as a map."""
    context.tick(1.0)
    return Attribution(instance.label, image[0].cpu().numpy(), (0,) * (image.ndim - 2))


@hookimpl
def segxai_method(name):
    return Method(name=name, summary="the image itself", attribute=attribute_image)


class Sum:
    """The sum of the rows."""

    name = "toy_sum"
    linear = False

    def start(self, template):
        return torch.zeros_like(template)

    def add(self, state, batch):
        state[batch.box.index] += batch.values.sum(dim=0)
        return state

    def finish(self, state):
        return state


@hookimpl
def segxai_aggregator(name):
    return Sum()
