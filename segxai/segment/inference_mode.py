"""Inference mode: networks prepared to predict in full precision, and restored afterwards."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network in evaluation mode, without parameter gradients, and restore it afterwards.

    What `torch.compile` made runs as it was written: rows are computed by the operations of the
    backward pass, which a compiled one hides.
    """
    # Not by `modules()`: some networks have another attribute of that name.
    modes = {module: module.training for _, module in network.named_modules()}
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.eval().requires_grad_(False)
    try:
        with _as_written():
            yield network
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


def _as_written() -> AbstractContextManager[object]:
    """Return a context in which nothing is compiled; cheap where nothing ever was."""
    is_loaded = "torch._dynamo" in sys.modules  # slow to import, and needed to compile anything
    return torch.compiler.set_stance("force_eager") if is_loaded else nullcontext()


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network within what `torch.compile` returned, or the network itself."""
    inner = getattr(network, "_orig_mod", network)
    return inner if isinstance(inner, nn.Module) else network


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
