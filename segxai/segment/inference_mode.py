"""Inference mode: networks prepared to predict in full precision, and restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network in evaluation mode, without parameter gradients, and restore it afterwards."""
    # Not by `modules()`: some networks have another attribute of that name.
    modes = {module: module.training for _, module in network.named_modules()}
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.eval().requires_grad_(False)
    try:
        yield network
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


@contextmanager
def exact_arithmetic(*, tf32: bool = False) -> Iterator[None]:
    """Use full float32 on a GPU: no TF32 unless requested, and deterministic kernels."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = (
        tf32, tf32, True, False,
    )  # fmt: skip
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
