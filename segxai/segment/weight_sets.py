"""Sets of weights: which of the tensors in a checkpoint are those of a network."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segxai.errors import SegxaiError, option, unknown_name, warn

DEPTH = 3  # of the nesting in training scripts' files, such as {"model": {"state_dict": ...}}
COUNTER = "num_batches_tracked"  # of batch norm; counts training steps, and is absent in old files
TOP = "."  # the key of tensors that lie in the file itself, without a prefix


@dataclass(frozen=True)
class WeightSet:
    """One set of tensors in a checkpoint, under the names that a network has for them.

    Parameters
    ----------
    key : str
        Where it lies: the names of the enclosing mappings and the prefix of its tensors, joined by
        dots, such as "state_dict.ema_model"; "." if there are none.
    tensors : mapping
        Without the prefix.
    is_complete : bool
        Whether it has every tensor of the network, of the network's shapes where these are known.
    """

    key: str
    tensors: dict[str, Tensor]
    is_complete: bool


def weight_sets(content: Mapping[str, Any], wanted: Collection[str]) -> list[WeightSet]:
    """Find the sets of tensors in a checkpoint that have a network's names.

    Parameters
    ----------
    content : mapping
        As `read_tensors` returns it.
    wanted : collection of str, or mapping
        Names of some of the network's tensors, the first without any prefix; or its state dict,
        whose shapes count, too.

    Returns
    -------
    list of WeightSet
        In the order of the file. No tensor of one complete set is in another.
    """
    return [one for path, part in parts_of(content) for one in _sets_of_part(path, part, wanted)]


def unwrap(
    content: Mapping[str, Any],
    wanted: Collection[str],
    *,
    key: str | None = None,
    name: str = "the checkpoint",
) -> dict[str, Tensor]:
    """Find a network's tensors in a checkpoint, without what training scripts wrap around them.

    Parameters
    ----------
    content, wanted
        See `weight_sets`.
    key : str, optional
        Which set of weights to take, if there are several, such as "teacher".
    name : str
        The file's name in messages.

    Returns
    -------
    dict
        The set with this key, or the only complete one, without a common prefix such as "module.".
        If none is complete, the one that has the most of the wanted names; empty if there is none.

    Raises
    ------
    SegxaiError
        If several sets are complete and differ, or there is none with this key.

    Warns
    -----
    SegxaiWarning
        If others that are not complete were left out.
    """
    found = weight_sets(content, wanted)
    if key is not None:
        return _with_key(found, key)
    likely = most_likely(found, wanted)
    if not likely:
        return {}
    first, *others = likely
    if not all(_same(first.tensors, one.tensors) for one in others):
        listed = ", ".join(repr(one.key) for one in likely)
        raise SegxaiError(
            f"{name} holds {len(likely)} sets of weights for the same network: {listed}; say "
            f"which with {option('weights_key')}"
        )
    if first.is_complete:
        _warn_of_others(first, found, wanted, name)
    return first.tensors


def most_likely(found: list[WeightSet], wanted: Collection[str]) -> list[WeightSet]:
    """Select the complete sets, or if there is none the one that has the most wanted names."""
    complete = [one for one in found if one.is_complete]
    if complete or not found:
        return complete
    return [max(found, key=lambda one: _count(one.tensors, wanted))]


def parts_of(
    content: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield the tensors of each mapping in a checkpoint that has any, after the path to it."""
    tensors = {str(name): one for name, one in content.items() if isinstance(one, Tensor)}
    if tensors:
        yield path, tensors
    for name, one in content.items() if len(path) < DEPTH else ():
        if isinstance(one, Mapping):
            yield from parts_of(one, (*path, str(name)))


def _sets_of_part(
    path: tuple[str, ...], part: Mapping[str, Tensor], wanted: Collection[str]
) -> Iterator[WeightSet]:
    """Yield the sets in one mapping, each with another prefix."""
    under = {prefix: _without(prefix, part) for prefix in _prefixes(part, wanted)}
    whole = [prefix for prefix, tensors in under.items() if _has_names(tensors, wanted)]
    layers = {outer + name for outer in whole for name in wanted}
    for prefix, tensors in under.items():
        inner = tuple(one.removeprefix(prefix) for one in whole if one.startswith(prefix))
        inner = tuple(filter(None, inner))
        own = {name: one for name, one in tensors.items() if not name.startswith(inner)}
        is_layer = prefix not in whole and layers.issuperset(prefix + name for name in own)
        if _count(own, wanted) and not is_layer:
            key = ".".join((*path, prefix.removesuffix("."))).removesuffix(".") or TOP
            yield WeightSet(key, own, prefix in whole and _has_shapes(own, wanted))


def _prefixes(part: Mapping[str, Tensor], wanted: Collection[str]) -> list[str]:
    """List the possible prefixes of names: none, and what precedes a wanted name."""
    first = next((name for name in wanted if not name.endswith(COUNTER)), "")
    return ["", *dict.fromkeys(n.removesuffix(first) for n in part if n.endswith(f".{first}"))]


def _without(prefix: str, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in part.items() if name.startswith(prefix)}


def _has_names(tensors: Collection[str], wanted: Collection[str]) -> bool:
    return all(name in tensors for name in wanted if not name.endswith(COUNTER))


def _has_shapes(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> bool:
    """Return whether the tensors have the wanted shapes, where these are known."""
    known = wanted if isinstance(wanted, Mapping) else {}
    return all(
        tensors[name].shape == one.shape
        for name, one in known.items()
        if isinstance(one, Tensor) and not name.endswith(COUNTER)
    )


def _count(tensors: Collection[str], wanted: Collection[str]) -> int:
    return sum(name in tensors for name in wanted)


def _with_key(found: list[WeightSet], key: str) -> dict[str, Tensor]:
    for one in found:
        if one.key == key:
            return one.tensors
    raise unknown_name("key of weights", key, (one.key for one in found))


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def _warn_of_others(
    taken: WeightSet, found: list[WeightSet], wanted: Collection[str], name: str
) -> None:
    """Warn of sets that have at least half of the tensors and were not taken."""
    others = [
        one.key
        for one in found
        if not one.is_complete and _count(one.tensors, wanted) * 2 >= len(wanted)
    ]
    if others:
        warn(
            f"{name}: took the weights {taken.key!r}; {', '.join(map(repr, others))} "
            f"{'does' if len(others) == 1 else 'do'} not fit the network"
        )
