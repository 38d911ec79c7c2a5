"""Logits, extracted from whatever a network returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from segxai.errors import SegxaiError

NAMES = ("logits", "out")  # in the outputs of transformers and of torchvision


def logits_of(output: Any) -> Tensor:
    """Find the tensor of logits (1, class, *spatial) in the output of a network.

    A tensor is returned as it is. From a mapping or a record, the part named "logits" or "out" is
    taken. Otherwise, the tensor with the most voxels is taken from a tuple, a list (deep
    supervision) or a mapping; the first one if several are equally large.

    Raises
    ------
    SegxaiError
        If there is no tensor with spatial axes.
    """
    if isinstance(output, Tensor):
        return output
    named = _named(output)
    for name in NAMES:
        if isinstance(named.get(name), Tensor):
            return named[name]
    found = [tensor for tensor in _tensors(output) if tensor.ndim > 2]
    if not found:
        raise SegxaiError(
            f"the network returns {_described(output)}; segxai needs a tensor of logits (1, class, "
            "*spatial): wrap the network in a module that returns it"
        )
    return max(found, key=lambda tensor: tensor[0, 0].numel())  # the first of the largest


def _named(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return output
    if is_dataclass(output) and not isinstance(output, type):
        return {one.name: getattr(output, one.name) for one in fields(output)}
    return {}


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested tuples, lists, mappings and records, in order."""
    if isinstance(output, Tensor):
        yield output
    elif named := _named(output):
        for part in named.values():
            yield from _tensors(part)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for part in output:
            yield from _tensors(part)


def _described(output: Any) -> str:
    """Describe in words what the network returned instead."""
    kind = type(output).__name__
    named = _named(output)
    return f"a {kind} with {', '.join(map(str, named)) or 'nothing'}" if named else f"a {kind}"
