"""Checkpoints: tensors read from a file without running code, and loaded into a network."""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line, warn
from segxai.segment.checkpoint_numbers import nothing_but_numbers
from segxai.segment.weight_sets import COUNTER, parts_of, unwrap

ALONE = (
    "save the tensors alone, with torch.save(network.state_dict(), FILE), or, from a file that you "
    "trust, with torch.save(torch.load(OLD, weights_only=False)[KEY], FILE)"
)
REFUSED = re.compile(r"GLOBAL (\S{1,100}) (?:was not|whose module)")  # in messages of torch


def load_weights(
    network: nn.Module, path: Path, name: str = "the network", *, key: str | None = None
) -> nn.Module:
    """Load the tensors of a checkpoint into a network, and return the network.

    Parameters
    ----------
    path : Path
        A `.safetensors` file, or a file made by `torch.save` that holds tensors, and nothing that
        runs code on loading. What training scripts add is removed: enclosing dictionaries such as
        "state_dict" and "model", and prefixes such as "module.".
    name : str
        The network's name in messages.
    key : str, optional
        Which set of weights to take, if the file holds several for the same network; see `unwrap`.

    Raises
    ------
    SegxaiError
        If the file cannot be read, or does not hold exactly the tensors of the network, or holds
        several sets of them.
    """
    wanted = network.state_dict()
    found = unwrap(read_tensors(path), wanted, key=key, name=path.name)
    problems = "; ".join(_problems(found, wanted))
    if problems:
        raise SegxaiError(f"checkpoint {path.name} does not fit {name}: {problems}")
    try:
        network.load_state_dict(found, strict=False)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SegxaiError(
            f"checkpoint {path.name} does not fit {name}: {one_line(error)}"
        ) from error
    return network


def read_tensors(path: Path, remedy: str = ALONE) -> Mapping[str, Any]:
    """Read what a checkpoint holds: tensors by name, on the CPU, possibly in nested mappings.

    Numbers, texts and containers beside the tensors are read too; numpy's numbers become Python's.

    Parameters
    ----------
    path
        A `.safetensors` file, or a file made by `torch.save`.
    remedy : str
        What to do about a file that needs anything else, for the error message.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or holds anything else.
    """
    if not path.is_file():
        raise SegxaiError(f"no checkpoint at {path}; give a .safetensors or a PyTorch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # about pickles that are not checkpoints, refused below
            warnings.simplefilter("ignore")
            content = _load(path)
    except UnpicklingError as error:
        named = REFUSED.search(str(error))
        what = named[1] if named else "something"
        raise SegxaiError(
            f"cannot read the checkpoint {path}: it contains {what} beside tensors and numbers, "
            f"which could run code on loading; {remedy}"
        ) from error
    # Readers raise whatever their format's parser raises: zip, JSON, operating system.
    except Exception as error:
        raise SegxaiError(f"cannot read the checkpoint {path}: {one_line(error)}") from error
    if not isinstance(content, Mapping):
        raise SegxaiError(f"{path} holds a {type(content).__name__}; expected a state dict")
    for _, part in parts_of(content):
        _check_plain(part, path)
    return content


def _check_plain(part: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors are arrays in memory, which every network can take."""
    for name, one in part.items():
        is_dense = one.layout is torch.strided and not one.is_quantized
        if not is_dense or one.device.type != "cpu":
            kind = one.device.type if is_dense else "sparse or quantized"
            raise SegxaiError(f"{path}: the tensor {name!r} is {kind}; save it as a plain one")


def _load(path: Path) -> object:
    """Load a file, memory-mapped if possible, so that an optimizer's state in it is never read."""
    with nothing_but_numbers():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))


def tensors_sha256(network: nn.Module) -> str:
    """Compute the SHA-256 of all weights and buffers of a network, including their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def in_float32(network: nn.Module) -> tuple[str, ...]:
    """Convert a network's weights to float32 in place, and return notes on what changed."""
    tensors = (*network.parameters(), *network.buffers())
    kinds = {one.dtype for one in tensors if one.is_floating_point()} - {torch.float32}
    if not kinds:
        return ()
    network.float()
    names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return (f"the model's weights are {names}: computed in float32",)


@contextmanager
def without_halves(network: nn.Module) -> Iterator[nn.Module]:
    """Convert half-precision weights to float32, without loss, and restore them afterwards.

    Warns
    -----
    SegxaiWarning
        If the network has any.
    """
    halves = [
        (one, one.dtype)
        for one in (*network.parameters(), *network.buffers())
        if one.dtype in (torch.float16, torch.bfloat16)
    ]
    if halves:
        names = " and ".join(sorted({str(kind).removeprefix("torch.") for _, kind in halves}))
        warn(f"the model's weights are {names}: computed in float32")
    try:
        for one, _ in halves:
            one.data = one.data.float()
        yield network
    finally:
        for one, kind in halves:
            one.data = one.data.to(kind)


def _problems(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Describe each reason why a checkpoint does not belong to the network."""
    missing = [one for one in wanted if one not in found and not one.endswith(COUNTER)]
    unknown = [one for one in found if one not in wanted and not one.endswith(COUNTER)]
    if missing:
        yield f"{len(missing)} of {len(wanted)} tensors are missing, such as {missing[0]!r}"
    if unknown:
        yield f"unexpected tensors: {len(unknown)}, such as {unknown[0]!r}"
    for name in wanted.keys() & found.keys():
        shape, expected = tuple(found[name].shape), tuple(wanted[name].shape)
        if shape != expected:
            yield f"{name!r} is of shape {shape} and should be {expected}"
            return
        if found[name].is_complex() and not wanted[name].is_complex():
            yield f"{name!r} is complex and should be real"
            return
