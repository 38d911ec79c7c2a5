"""Bookmarks: files that keep the progress within an instance, so that a run can resume there.

What is kept belongs to one instance of one task (see `segxai.run.resume.owner_of`), and is used for
no other. The file holds tensors and a few words, and a checksum of both: nothing in it is executed,
and a damaged one is not used.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from segxai.errors import SegxaiError, one_line, warn
from segxai.methods.resume_state import State
from segxai.store import hdf5
from segxai.store.atomic_file import replacing
from segxai.store.runs import comparable
from segxai.store.schema import as_json
from segxai.types import Instance

SECONDS_BETWEEN = 30.0  # what a kill may cost; instances that take less are never kept
CHECKSUM = "sha256"  # the word for it
SHARE_FOR_KEEPING = 0.05  # of the time at most: large states are kept less often


@dataclass
class Meter:
    """A counter of an instance's work from 0 to 1, without what was done before a break.

    Methods report all work, whether done now or before. `done` is the share already counted.
    """

    done: float = 0.0
    _reported: float = 0.0

    def count(self, share: float) -> float:
        """Count a reported share, and return the part of it that is new."""
        self._reported += share
        new = max(min(self._reported, 1.0) - self.done, 0.0)
        self.done += new
        return new

    def complete(self) -> float:
        """Count what is left when the instance is finished, however much was reported."""
        return self.count(1.0)


class FileBookmark:
    """The bookmark of one instance, in a file that is replaced atomically.

    Parameters
    ----------
    path : Path
        One file for all instances of a result: it holds the state of the latest one.
    owner : str
        Identifies everything that the state depends on. A state of another owner is not loaded.

    Attributes
    ----------
    meter : Meter
        Counts the instance's work; starts from what was done when the state was kept.
    seconds : float
        How many seconds had been spent on the instance by then.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path = path
        self.owner = owner
        words, _ = self._read()
        self.meter = Meter(float(words.get("share", 0)))
        self.seconds = float(words.get("seconds", 0))
        self._started = monotonic()
        self._next = self._started + SECONDS_BETWEEN

    def load(self) -> State:
        """Load the state that was kept last, on the CPU.

        Empty if there is none of this owner, or if it is damaged, with a warning.
        """
        return self._read()[1]

    def keep(self, gather: Callable[[], State]) -> None:
        """Write the state, if the last write is long enough ago.

        A state that cannot be written causes a warning and does not end the run: maps need less
        room.
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
                f"the progress of this instance cannot be kept ({one_line(error)}): the run goes "
                "on, but if it is interrupted, the instance starts again",
                stacklevel=2,
            )
            self._next = float("inf")
            return
        took = monotonic() - started
        self._next = monotonic() + max(SECONDS_BETWEEN, took / SHARE_FOR_KEEPING)

    def remove(self) -> None:
        """Remove the state of an instance that is stored and does not need it any more."""
        if self._words():
            self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, str], State]:
        """Read the words and the tensors that were kept; nothing where they have changed since."""
        words = self._words()
        if not words:
            return {}, {}
        with safe_open(self.path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if words.pop(CHECKSUM, "") == _checksum(words, tensors):
            return words, tensors
        warn(f"{self.path.name} is damaged: the instance that it was kept for starts again")
        self.path.unlink(missing_ok=True)
        return {}, {}

    def _write(self, state: State) -> None:
        # Copies: tensors that share memory cannot be written.
        tensors = {
            name: one.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, one in state.items()
        }
        seconds = self.seconds + monotonic() - self._started
        words = {"owner": self.owner, "share": repr(self.meter.done), "seconds": repr(seconds)}
        words[CHECKSUM] = _checksum(words, tensors)
        with replacing(self.path, copy=False) as draft:
            draft.write_bytes(save(tensors, words))  # save_file leaves a file of its own if killed

    def _words(self) -> dict[str, str]:
        """Read what is kept beside the tensors, for this owner; empty if there is nothing."""
        try:
            with safe_open(self.path, framework="pt") as file:
                words = file.metadata() or {}
        except (OSError, RuntimeError, SafetensorError):  # there is none, or it is something else
            return {}
        return words if words.get("owner") == self.owner else {}


def _checksum(words: Mapping[str, str], tensors: State) -> str:
    """Compute the sha256 of words and tensors: their names, types, shapes and values."""
    found = sha256(repr(sorted(words.items())).encode())
    for name, one in sorted(tensors.items()):
        found.update(repr((name, str(one.dtype), tuple(one.shape))).encode())
        found.update(one.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def owner_of(
    path: Path,
    runs: Sequence[str],
    provenance: Sequence[Mapping[str, Any]],
    instance: Instance,
    engine: str,
) -> str:
    """Hash all that the state of an unfinished instance depends on, to the last bit.

    That is more than its map depends on: device, engine and batch decide how far it has come. A
    result file that was created again counts as another one, whatever it holds.

    Parameters
    ----------
    path : Path
        The result file.
    runs, provenance : sequence
        Name and provenance of each run whose maps are computed together.
    engine : str
        The engine that computes the rows, where the provenance may say "auto".
    """
    facts = {
        "case": hdf5.read_provenance(path),
        "runs": list(runs),
        "maps": [comparable(one) for one in provenance],
        "how": [one["compute"] for one in provenance],
        "engine": engine,
        "label": instance.label,
        "class": instance.class_index,
        "domain": sha256(instance.voxels.tobytes()).hexdigest(),
        "rows": sha256(instance.row_voxels.tobytes()).hexdigest(),
    }
    return sha256(as_json(facts).encode()).hexdigest()
