"""Architectures: the classes that plans may name, and how plans of older versions are read."""

from collections.abc import Mapping
from typing import Any

from dynamic_network_architectures.architectures import unet
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from torch import nn

from segxai import SegxaiError, unknown_name

UNETS: dict[str, type[nn.Module]] = {
    one.__name__: one for one in (unet.PlainConvUNet, unet.ResidualEncoderUNet, unet.ResidualUNet)
}
TORCH = (
    nn.Conv2d,
    nn.Conv3d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.LeakyReLU,
    nn.ReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
)
PARTS: dict[str, type[nn.Module]] = {
    **{f"torch.nn.{one.__name__}": one for one in TORCH},
    **{f"{one.__module__}.{one.__name__}": one for one in (*TORCH, BasicBlockD, BottleneckD)},
}

KEYS = ("network_class_name", "arch_kwargs", "_kw_requires_import")


def find_unet(name: str) -> type[nn.Module]:
    """Find the network class of this name; nothing is imported by its name.

    Raises
    ------
    SegxaiError
        If it is not one of the U-Nets of dynamic_network_architectures.
    """
    package, _, last = str(name).rpartition(".")
    if last in UNETS and package.startswith("dynamic_network_architectures."):
        return UNETS[last]
    error = unknown_name("network", str(name), UNETS)
    raise SegxaiError(f"{error}; plans may name U-Nets of dynamic_network_architectures only")


def find_part(name: str) -> type[nn.Module]:
    """Find the layer class of this name; nothing is imported by its name.

    Raises
    ------
    SegxaiError
        If nnU-Net's U-Nets are not made of such layers.
    """
    if not isinstance(name, str) or name not in PARTS:
        raise unknown_name("layer of a network", str(name), PARTS)
    return PARTS[name]


def architecture_of(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return class and arguments of a configuration's network, also for plans that do not name it.

    A 2D network becomes the 3D one that maps volumes of a single slice to the same logits: with
    three axes throughout, its feature maps lie on the grid of its input, as CAM methods need.

    Raises
    ------
    KeyError, TypeError
        If the configuration lacks what the network needs.
    """
    named = configuration.get("architecture") or _before_they_said(configuration)
    found = {key: named[key] for key in KEYS}
    arguments = dict(found["arch_kwargs"])
    if not arguments["conv_op"].endswith("2d"):
        return found
    for name in found["_kw_requires_import"]:
        if str(arguments.get(name)).endswith("2d"):
            arguments[name] = f"{arguments[name][:-2]}3d"
    for name in ("kernel_sizes", "strides"):
        arguments[name] = [[1, *stage] for stage in arguments[name]]
    return {**found, "arch_kwargs": arguments}


def _before_they_said(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    axes = len(configuration["patch_size"])
    counts = configuration["n_conv_per_stage_encoder"]
    first, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    name = configuration["UNet_class_name"]
    arguments = {
        "n_stages": len(counts),
        "features_per_stage": [min(first * 2**stage, most) for stage in range(len(counts))],
        "conv_op": f"torch.nn.Conv{axes}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": counts,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    whole_name = f"dynamic_network_architectures.architectures.unet.{name}"
    return dict(zip(KEYS, (whole_name, arguments, ("conv_op", "norm_op", "nonlin")), strict=True))
