"""Logits, extracted from whatever a network returns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any, Literal

from torch import Tensor

from segxai.errors import SegxaiError, option
from segxai.text import format_shape

NAMES = ("logits", "out")  # in the outputs of transformers and of torchvision
SUM_TOLERANCE = 1e-3  # of probabilities over the classes, which a network may compute in float16


def logits_of(output: Any, which: str | int | None = None, classes: int | None = None) -> Tensor:
    """Find the tensor of logits (1, class, *spatial) in the output of a network.

    Parameters
    ----------
    output : Any
        A tensor is returned as it is.
    which : str or int, optional
        The tensor's name, or its number, as `tensors_of` lists them. If not given, see
        `name_of_logits`.
    classes : int, optional
        The number of logits for each voxel, where it is known.

    Raises
    ------
    SegxaiError
        If there is no such tensor, or if it is not clear which tensor holds the logits; those that
        there are are listed.
    """
    if isinstance(output, Tensor):
        return output
    return tensors_of(output)[name_of_logits(output, which, classes)]


def name_of_logits(output: Any, which: str | int | None = None, classes: int | None = None) -> str:
    """Find the name of the tensor of logits among those that a network returns.

    The author's word comes first: a part that is named "logits" or "out", or the only one with
    "logit" in its name. Otherwise it is the tensor with the most voxels, of those with as many
    channels as there are classes.

    Raises
    ------
    SegxaiError
        If there is none, or more than one.
    """
    found = tensors_of(output)
    if which is not None:
        return _asked(found, which)
    left = _candidates(found)
    if not left:
        raise SegxaiError(
            f"the network returns {_described(output)}; segxai needs a tensor of logits (1, class, "
            "*spatial): wrap the network in a module that returns it"
        )
    if name := stated_name(found):
        return name
    named = {name: one for name, one in left.items() if _has_logit(name)}
    left = _with_most(named or left, lambda one: one.ndim)
    left = _with_most(left, lambda one: prod(one.shape[2:]))
    left = _with_most(left, lambda one: one.shape[1] == classes)
    if len(left) > 1:
        raise SegxaiError(
            f"the network returns {len(found)} tensors, of which {len(left)} may be its logits: "
            f"{in_words(left)}; say which, by name or number, with {option('output')}"
        )
    return next(iter(left))


def _candidates(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that may be logits; labels only if there is nothing else."""
    spatial = {name: one for name, one in found.items() if one.ndim > 2}
    return {name: one for name, one in spatial.items() if one.is_floating_point()} or spatial


def stated_name(found: Mapping[str, Tensor]) -> str | None:
    """Return the name of the logits if the network's author states it, or if nothing else fits."""
    known = list(_candidates(found))
    if len(known) == 1:
        return known[0]
    usual = next((name for name in NAMES if name in known), None)
    named = [name for name in known if _has_logit(name)]
    return usual or (named[0] if len(named) == 1 else None)


def _has_logit(name: str) -> bool:
    return "logit" in name.rpartition(".")[2].lower()


def _with_most(found: Mapping[str, Tensor], size: Callable[[Tensor], int]) -> dict[str, Tensor]:
    """Keep the tensors of the largest size."""
    most = max(map(size, found.values()))
    return {name: one for name, one in found.items() if size(one) == most}


def tensors_of(output: Any) -> dict[str, Tensor]:
    """List all tensors in nested tuples, lists, mappings and records, in order, by name.

    A name consists of keys, and of positions from 0, joined by dots: "aux.0". That of a bare tensor
    is empty.
    """
    return {".".join(path): one for path, one in _walk(output, ())}


def in_words(found: Mapping[str, Tensor]) -> str:
    """List tensors for a message: name, shape, and whether they are probabilities."""
    return ", ".join(f"{name} ({_shape(one)})" for name, one in found.items())


Kind = Literal["logits", "probabilities", "unit interval", "log-probabilities"]


def kind_of(values: Tensor) -> Kind:
    """Tell what the values (1, class, *spatial) look like.

    "probabilities" of several classes sum to 1 at every voxel, as do the exponentials of
    "log-probabilities". Other values between 0 and 1, as sigmoids make them, are in the "unit
    interval"; so may logits be by chance.
    """
    if values.ndim < 3 or not values.numel() or not values.is_floating_point():
        return "logits"
    values = values.detach().float()
    if values.shape[1] > 1 and values.min() >= -SUM_TOLERANCE and _is_one(values.sum(dim=1)):
        return "probabilities"
    if values.shape[1] > 1 and values.max() <= 0 and _is_one(values.exp().sum(dim=1)):
        return "log-probabilities"
    return "unit interval" if values.min() >= 0 and values.max() <= 1 else "logits"


def _is_one(totals: Tensor) -> bool:
    return bool((totals - 1).abs().max() <= SUM_TOLERANCE)


def _shape(one: Tensor) -> str:
    words = format_shape(one.shape)
    return f"{words}, probabilities that sum to 1" if kind_of(one) == "probabilities" else words


def _asked(found: Mapping[str, Tensor], which: str | int) -> str:
    """Return the name of the tensor that the user names by its name or number."""
    names = list(found)
    text = str(which)
    if text in found:
        return text
    if text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    raise SegxaiError(
        f"{option('output', which)}: the network returns no such tensor; known: {in_words(found)}"
    )


def _named(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return output
    if is_dataclass(output) and not isinstance(output, type):
        return {one.name: getattr(output, one.name) for one in fields(output)}
    return {}


def _walk(output: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield all tensors with the keys and positions that lead to them."""
    if isinstance(output, Tensor):
        yield path, output
    elif named := _named(output):
        for name, part in named.items():
            yield from _walk(part, (*path, str(name)))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for number, part in enumerate(output):
            yield from _walk(part, (*path, str(number)))


def _described(output: Any) -> str:
    """Describe in words what the network returned instead."""
    kind = type(output).__name__
    named = _named(output)
    return f"a {kind} with {', '.join(map(str, named)) or 'nothing'}" if named else f"a {kind}"
