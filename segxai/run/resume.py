"""Bookmarks: an instance in work, kept in a file now and then, so that a run goes on inside it.

What is kept belongs to one instance of one task (see `segxai.run.resume.owner_of`), and is used for
no other. The file holds tensors and a few words: nothing in it is executed.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from segxai.errors import SegxaiError, one_line
from segxai.methods.resume_state import State
from segxai.store import hdf5
from segxai.store.atomic_file import replacing
from segxai.store.runs import HOW, comparable
from segxai.store.schema import as_json
from segxai.types import Instance

SECONDS_BETWEEN = 30.0  # what a kill may cost; instances that take less are never kept
SHARE_FOR_KEEPING = 0.05  # of the time, at most: large states are kept less often


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


def owner_of(
    path: Path, run: str, run_provenance: Mapping[str, Any], instance: Instance, engine: str
) -> str:
    """Stands for all that the state of an instance in work depends on, to the last bit.

    That is more than its map depends on: device, engine and batch decide how far it has come. A
    result file that was made again is another one, whatever it holds.

    Parameters
    ----------
    path : Path
        The result file.
    engine : str
        That computes the rows, where the provenance may say "auto".
    """
    facts = {
        "case": hdf5.read_provenance(path),
        "run": run,
        "maps": comparable(run_provenance),
        "how": {name: run_provenance[name] for name in HOW},
        "engine": engine,
        "label": instance.label,
        "class": instance.class_index,
        "domain": sha256(instance.voxels.tobytes()).hexdigest(),
        "rows": sha256(instance.row_voxels.tobytes()).hexdigest(),
    }
    return sha256(as_json(facts).encode()).hexdigest()
