"""Bookmarks: an instance in work, kept in a file now and then, so that a run goes on inside it.

What is kept belongs to one instance of one task (see `segxai.resuming.owner_of`), and is used for
no other. The file holds tensors and a few words: nothing in it is executed.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from segxai.drafts import replacing
from segxai.errors import SegxaiError, one_line
from segxai.protocols import Bookmark, State

SECONDS_BETWEEN = 30.0  # what a kill may cost; instances that take less are never kept
SHARE_FOR_KEEPING = 0.05  # of the time, at most: large states are kept less often
NUMBERS = (torch.int64, torch.float64)


@dataclass
class Meter:
    """Counts the work of an instance from 0 to 1, and never what was done before a break.

    Methods report all that is done, whether now or before. `done` is what was counted already.
    """

    done: float = 0.0
    _reported: float = 0.0

    def count(self, share: float) -> float:
        """How much of a reported share is new."""
        self._reported += share
        new = max(min(self._reported, 1.0) - self.done, 0.0)
        self.done += new
        return new

    def complete(self) -> float:
        """What is left when the instance is finished, however much was reported."""
        return self.count(1.0)


class FileBookmark:
    """The bookmark of one instance, in a file that changes as a whole or not at all.

    Parameters
    ----------
    path : Path
        One file for all instances of a result: it holds the last one that was in work.
    owner : str
        Stands for everything that the state depends on. A state of another owner is not loaded.

    Attributes
    ----------
    meter : Meter
        Counts the instance's work; begins with what was done when the state was kept.
    seconds : float
        For how long the instance had been in work by then.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path = path
        self.owner = owner
        words = self._words()
        self.meter = Meter(float(words.get("share", 0)))
        self.seconds = float(words.get("seconds", 0))
        self._started = monotonic()
        self._next = self._started + SECONDS_BETWEEN

    def load(self) -> State:
        """The state that was kept last, on the CPU; empty if there is none of this owner."""
        if not self._words():
            return {}
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def keep(self, gather: Callable[[], State]) -> None:
        """Write the state, if the last time is long enough ago.

        A state that cannot be written costs a warning, not the run: maps need less room.
        """
        started = monotonic()
        if started < self._next:
            return
        state = gather()
        if not state:
            return
        try:
            self._write(state)
        except (SegxaiError, SafetensorError) as error:
            warnings.warn(
                f"the instance in work cannot be kept ({one_line(error)}): it goes on, but if it "
                "is interrupted it starts again",
                stacklevel=2,
            )
            self._next = float("inf")
            return
        took = monotonic() - started
        self._next = monotonic() + max(SECONDS_BETWEEN, took / SHARE_FOR_KEEPING)

    def remove(self) -> None:
        """The instance is stored: its state is not needed any more."""
        if self._words():
            self.path.unlink(missing_ok=True)

    def _write(self, state: State) -> None:
        # Copies: tensors that share memory cannot be written.
        tensors = {
            name: one.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, one in state.items()
        }
        seconds = self.seconds + monotonic() - self._started
        words = {"owner": self.owner, "share": repr(self.meter.done), "seconds": repr(seconds)}
        with replacing(self.path, copy=False) as draft:
            draft.write_bytes(save(tensors, words))  # save_file leaves a file of its own if killed

    def _words(self) -> dict[str, str]:
        """What is kept beside the tensors, for this owner; empty if nothing is."""
        try:
            with safe_open(self.path, framework="pt") as file:
                words = file.metadata() or {}
        except (OSError, RuntimeError, SafetensorError):  # there is none, or it is something else
            return {}
        return words if words.get("owner") == self.owner else {}


class Inside:
    """The bookmark of a computation inside of another one, which keeps both states as one.

    Parameters
    ----------
    whole : Bookmark
        The outer computation's own.
    around : callable
        Returns the outer computation's state.
    """

    PREFIX = "inside."

    def __init__(self, whole: Bookmark, around: Callable[[], State]) -> None:
        self.whole = whole
        self.around = around
        self._is_first = True

    def load(self) -> State:
        """The inner state, once: what is computed after it was not interrupted."""
        kept = self.whole.load() if self._is_first else {}
        self._is_first = False
        cut = len(self.PREFIX)
        return {name[cut:]: one for name, one in kept.items() if name.startswith(self.PREFIX)}

    def keep(self, gather: Callable[[], State]) -> None:
        """Both states, if it is time and the inner one can be kept."""
        self.whole.keep(lambda: self._both(gather()))

    def _both(self, inner: State) -> State:
        if not inner:
            return {}
        return {**self.around(), **{self.PREFIX + name: one for name, one in inner.items()}}


@dataclass(frozen=True)
class Beside:
    """A bookmark that keeps one more state along with the one that it is given.

    Parameters
    ----------
    whole : Bookmark
        Keeps both.
    more : callable
        Returns the other state.
    """

    whole: Bookmark
    more: Callable[[], State]

    def load(self) -> State:
        """Both states."""
        return self.whole.load()

    def keep(self, gather: Callable[[], State]) -> None:
        """Both states, if it is time."""
        self.whole.keep(lambda: self._both(gather()))

    def _both(self, state: State) -> State:
        return {**state, **self.more()} if state else {}


def tensors_of(state: Any, name: str = "state") -> dict[str, Tensor] | None:
    """The tensors that a state consists of, by their place in it; numbers become tensors.

    None for a state that holds anything else than tensors, numbers and None, in dataclasses,
    tuples or dicts: it cannot be kept.
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state}
    if isinstance(state, int | float):
        return {name: torch.tensor(state, dtype=NUMBERS[isinstance(state, float)])}
    parts = _parts(state)
    inner = [tensors_of(part, f"{name}.{key}") for key, part in (parts or {}).items()]
    if parts is None or None in inner:
        return None
    return {key: one for found in inner if found for key, one in found.items()}


def refilled(fresh: Any, tensors: State, name: str = "state") -> Any:
    """A state like a fresh one, with the tensors that `tensors_of` found in another."""
    if fresh is None:
        return None
    if isinstance(fresh, Tensor):
        return tensors[name].to(fresh)
    if isinstance(fresh, int | float):
        return type(fresh)(tensors[name].item())
    parts = _parts(fresh) or {}
    filled = {key: refilled(part, tensors, f"{name}.{key}") for key, part in parts.items()}
    if isinstance(fresh, dict):
        return filled
    return tuple(filled.values()) if isinstance(fresh, tuple) else replace(fresh, **filled)


def _parts(state: Any) -> dict[str, Any] | None:
    """What a container holds, by name; None for anything that is no container of a known kind."""
    if is_dataclass(state) and all(one.init for one in fields(state)):
        return {one.name: getattr(state, one.name) for one in fields(state)}
    if type(state) is tuple:
        return {str(place): part for place, part in enumerate(state)}
    if type(state) is dict and all(isinstance(key, str) for key in state):
        return state
    return None
