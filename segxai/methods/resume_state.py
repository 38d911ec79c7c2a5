"""Resuming inside an instance: the protocol of bookmarks, and what methods keep in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

State = Mapping[str, Tensor]
NUMBERS = (torch.int64, torch.float64)


@runtime_checkable
class Bookmark(Protocol):
    """A record of the progress of a long computation, for a process that continues it.

    What is loaded must lead to the same values as an unbroken computation, to the last bit.
    """

    def load(self) -> State:
        """Load what was kept last, on the CPU; empty if nothing was."""
        ...

    def keep(self, gather: Callable[[], State]) -> None:
        """Keep the state that `gather` returns, if it is time; cheap enough to call often.

        An empty state is not kept.
        """
        ...


class NoBookmark:
    """A bookmark that keeps nothing."""

    def load(self) -> State:
        """Return an empty state."""
        return {}

    def keep(self, gather: Callable[[], State]) -> None:
        """Keep nothing."""


class NestedState:
    """A bookmark for a computation inside another one, which keeps both states as one.

    Parameters
    ----------
    whole : Bookmark
        The outer computation's own bookmark.
    around : callable
        Returns the outer computation's state.
    """

    PREFIX = "inside."

    def __init__(self, whole: Bookmark, around: Callable[[], State]) -> None:
        self.whole = whole
        self.around = around
        self._is_first = True

    def load(self) -> State:
        """Load the inner state on the first call only: later computations were not interrupted."""
        kept = self.whole.load() if self._is_first else {}
        self._is_first = False
        cut = len(self.PREFIX)
        return {name[cut:]: one for name, one in kept.items() if name.startswith(self.PREFIX)}

    def keep(self, gather: Callable[[], State]) -> None:
        """Keep both states, if it is time and the inner one can be kept."""
        self.whole.keep(lambda: self._both(gather()))

    def _both(self, inner: State) -> State:
        if not inner:
            return {}
        return {**self.around(), **{self.PREFIX + name: one for name, one in inner.items()}}


@dataclass(frozen=True)
class WithExtraState:
    """A bookmark that keeps one more state along with the one that it is given.

    Parameters
    ----------
    whole : Bookmark
        Bookmark that keeps both states.
    more : callable
        Returns the other state.
    """

    whole: Bookmark
    more: Callable[[], State]

    def load(self) -> State:
        """Load both states."""
        return self.whole.load()

    def keep(self, gather: Callable[[], State]) -> None:
        """Keep both states, if it is time."""
        self.whole.keep(lambda: self._both(gather()))

    def _both(self, state: State) -> State:
        return {**state, **self.more()} if state else {}


def state_to_tensors(state: Any, name: str = "state") -> dict[str, Tensor] | None:
    """Collect the tensors of a state, by their place in it; numbers become tensors.

    None for a state that holds anything other than tensors, numbers and None, in dataclasses,
    tuples or dicts: it cannot be kept.
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state}
    if isinstance(state, int | float):
        return {name: torch.tensor(state, dtype=NUMBERS[isinstance(state, float)])}
    parts = _parts(state)
    inner = [state_to_tensors(part, f"{name}.{key}") for key, part in (parts or {}).items()]
    if parts is None or None in inner:
        return None
    return {key: one for found in inner if found for key, one in found.items()}


def state_from_tensors(fresh: Any, tensors: State, name: str = "state") -> Any:
    """Rebuild a state like the fresh one from the tensors that `state_to_tensors` collected."""
    if fresh is None:
        return None
    if isinstance(fresh, Tensor):
        return tensors[name].to(fresh)
    if isinstance(fresh, int | float):
        return type(fresh)(tensors[name].item())
    parts = _parts(fresh) or {}
    filled = {
        key: state_from_tensors(part, tensors, f"{name}.{key}") for key, part in parts.items()
    }
    if isinstance(fresh, dict):
        return filled
    return tuple(filled.values()) if isinstance(fresh, tuple) else replace(fresh, **filled)


def _parts(state: Any) -> dict[str, Any] | None:
    """Return what a container holds, by name; None if it is not a container of a known kind."""
    if is_dataclass(state) and all(one.init for one in fields(state)):
        return {one.name: getattr(state, one.name) for one in fields(state)}
    if type(state) is tuple:
        return {str(place): part for place, part in enumerate(state)}
    if type(state) is dict and all(isinstance(key, str) for key in state):
        return state
    return None
