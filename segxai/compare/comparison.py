"""The comparison: all runs in some results, case by case, with what must be said about it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from segxai.compare.members import Member, opened
from segxai.compare.notes import notes_on
from segxai.compare.pairs import Comparer
from segxai.compare.places import files_by_case, patients_of
from segxai.compare.rows import CaseRows, rows_of
from segxai.compare.runs import ComparedRun, Key, chosen, named
from segxai.compare.table import summarised, tidy
from segxai.errors import SegxaiError
from segxai.store.schema import group


@dataclass(frozen=True)
class Compared:
    """The runs to compare, checked to explain the same images.

    Parameters
    ----------
    places : tuple of Path
        Result files of one case, or folders of results.
    files : mapping
        The files of each case, by the number of the place.
    runs : mapping
        The runs by key, as their first case has them.
    patients : mapping
        Whose each case is.
    """

    places: tuple[Path, ...]
    files: Mapping[str, Mapping[int, Path]]
    runs: Mapping[Key, ComparedRun]
    patients: Mapping[str, str]

    @cached_property
    def names(self) -> dict[Key, str]:
        """The name of each run, in tables and figures."""
        return named(list(self.runs.values()))

    @contextmanager
    def case(self, case: str) -> Iterator[tuple[list[Member], Comparer]]:
        """Open the results of a case: the runs that are compared, and what compares them."""
        with opened(self.files[case], {name for _, name in self.runs}) as members:
            yield members, _comparer(members)


def _comparer(members: Sequence[Member]) -> Comparer:
    first = members[0].file
    return Comparer(first.grid, tuple(first.channels))


def find_runs(
    places: Sequence[Path], names: Sequence[str] = (), patients: Path | None = None
) -> Compared:
    """Find the runs to compare, and check that they explain the same images on the same grids.

    Parameters
    ----------
    places : sequence of Path
        Result files of one case, or folders with a file CASE.h5 for each case.
    names : sequence of str
        The runs to take, by their names in the files; all if empty.
    patients : Path, optional
        A table of the patient of each case; see `patients_of`.

    Raises
    ------
    SegxaiError
        If a file is damaged, there are fewer than two runs, or no case has two of them.
    """
    known: dict[Key, ComparedRun] = {}
    files: dict[str, Mapping[int, Path]] = {}
    by_case = files_by_case(places)
    for stem, paths in by_case.items():
        with opened(paths) as members:
            case = stem or str(group(members[0].file.tree, "input").attrs["case"])
            files[case] = paths
            for member in members:
                run = member.run
                place = Path(places[run.key[0]])
                known.setdefault(run.key, ComparedRun(run.key, place, run.case, run.how))
    kept = {run.key: run for run in chosen(list(known.values()), names)}
    return Compared(tuple(places), files, kept, patients_of(files, patients))


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    Parameters
    ----------
    table, summary : DataFrame
        See `segxai.compare.table`.
    notes : tuple of str
        What must be said about it.
    alone : list of Alone
        The instances that have no partner in another run.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    notes: tuple[str, ...]
    alone: tuple["Alone", ...]


@dataclass(frozen=True)
class Alone:
    """An instance of a run, in a case, that has no partner in another run."""

    case: str
    run: Key
    other: Key
    label: int


def compare(compared: Compared, *, seed: int = 0) -> Comparison:
    """Compare each two runs, instance by instance, in every case that has both.

    Parameters
    ----------
    seed : int
        Draws the pairings of the floor.

    Raises
    ------
    SegxaiError
        If no two runs share an instance.
    """
    by_case: dict[str, CaseRows] = {}
    units: dict[Key, str] = {}
    for case in compared.files:
        with compared.case(case) as (members, comparer):
            by_case[case] = rows_of(members, comparer, seed)
            units |= {one.run.key: one.unit for one in members if one.unit}
    if not any(one.pairs for found in by_case.values() for one in found.matches.values()):
        raise SegxaiError(
            "no two runs share an instance: no domain overlaps one of another run; explain the "
            "same domains with segxai run --instances OTHER.h5"
        )
    rows = [
        {"case": case, "patient": compared.patients[case], **row}
        for case, found in by_case.items()
        for row in found.rows
    ]
    table = tidy(rows, compared.names)
    notes = tuple(notes_on(compared, by_case, units))
    return Comparison(table, summarised(table), notes, tuple(_alone(by_case)))


def _alone(by_case: Mapping[str, CaseRows]) -> Iterator[Alone]:
    for case, found in by_case.items():
        for (first, second), one in found.matches.items():
            for run, other, labels in zip((first, second), (second, first), one.alone, strict=True):
                yield from (Alone(case, run, other, label) for label in labels)
