"""Writer: puts finished maps into a result, so that no kill loses one and none takes long.

A map goes into the file at once if that is worth it, and otherwise into the journal beside it (see
`segxai.store.journal`), which is folded into the file from time to time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Final

import h5py

from segxai.errors import SegxaiError
from segxai.store import hdf5
from segxai.store.journal import Journal
from segxai.store.layout import check_maps, places_of
from segxai.store.maps import FinishedMap, run_dataset
from segxai.store.refusal import DamageError
from segxai.types import Attribution, Case, Instance

WORTH_FOLDING: Final = 20  # a fold is worth it when it takes 1/20 of the time since the last one


class MapWriter:
    """Adds maps to a result file; use it in a `with` block (see `adding_maps`)."""

    def __init__(self, path: Path, case: Case) -> None:
        self._path = path
        self._case = case
        self._journal = journal_of(path)
        self._waiting: list[tuple[str, FinishedMap]] = []
        self._fold_from = 0.0

    def add(self, run: str, attribution: Attribution, instance: Instance) -> None:
        """Add a finished map, and its row in the summaries of its run.

        Raises
        ------
        SegxaiError
            If it cannot be written.
        """
        one = FinishedMap.of(attribution, instance, self._case)
        is_worth_it = monotonic() >= self._fold_from
        if not is_worth_it:
            self._journal.add(run, one)
        self._waiting.append((run, one))
        if is_worth_it:
            self.fold()

    def fold(self) -> None:
        """Put the maps of the journal into the file."""
        if not self._waiting:
            return
        started = monotonic()
        hdf5.add(self._path, self._waiting)
        self._journal.remove()
        self._waiting = []
        ended = monotonic()
        self._fold_from = ended + WORTH_FOLDING * (ended - started)


@contextmanager
def adding_maps(path: Path, case: Case) -> Iterator[MapWriter]:
    """Yield a writer for the maps of a result; at the end all are in the file, whatever happens."""
    writer = MapWriter(path, case)
    try:
        yield writer
    finally:
        writer.fold()


def recover(path: Path) -> None:
    """Put the maps that a dead process left in the journal of a result into the file.

    The journal may come from a stranger, as the result may: it is checked as the file is.

    Raises
    ------
    SegxaiError
        If the journal is not one of segxai.
    """
    journal = journal_of(path)
    try:
        waiting = journal.read()
        _check(path, waiting)
        done = {run: hdf5.finished(path, run) for run in {run for run, _ in waiting}}
        lacking = {(run, one.label): one for run, one in waiting if one.label not in done[run]}
        if lacking:
            hdf5.add(path, [(run, one) for (run, _), one in lacking.items()])
    except DamageError as damage:
        raise SegxaiError(
            f"{journal.path} is not as segxai writes it: {damage}; remove it to go on without the "
            "maps in it"
        ) from damage
    journal.remove()


def journal_of(path: Path) -> Journal:
    """Return the journal of a result file."""
    with h5py.File(path, "r") as file:
        return Journal(path, sha256(str(file.attrs["provenance"]).encode()).hexdigest())


def _check(path: Path, waiting: list[tuple[str, FinishedMap]]) -> None:
    """Check that maps belong to the runs of a file, and fit its grids."""
    if not waiting:
        return
    known = hdf5.runs(path)
    with hdf5.open_result(path) as tree:
        places = places_of(tree)
    for run, one in waiting:
        if run not in known:
            raise DamageError(f"there is no run {run}")
        stored, where = run_dataset([one]), f"map {one.label}"
        check_maps(stored, where, places)
