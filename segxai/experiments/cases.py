"""The cases of an experiment: result files, whose they are, and what is missing among them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from segxai.errors import SegxaiError
from segxai.store.cover import read_cover
from segxai.tables.domains import identity, result_files
from segxai.text import plural
from segxai.types import Progress

COHORT = "cases.csv"  # in a cohort's folder: what became of each case
MOST_NAMED = 5


@dataclass(frozen=True)
class CaseFile:
    """A result file, and whose it is.

    Parameters
    ----------
    path : Path
        The file.
    case, patient, session, model : str
        As the table of domains names them; results of several models have a model's name and the
        start of its weights' sha256.
    """

    path: Path
    case: str
    patient: str
    session: str
    model: str

    @property
    def columns(self) -> dict[str, str]:
        """The same as columns of a table."""
        names = ("case", "patient", "session", "model")
        return {name: getattr(self, name) for name in names}


def cases_in(paths: Sequence[Path], progress: Progress | None = None) -> list[CaseFile]:
    """List the results in files and folders, with whose they are; see `result_files`.

    What a cohort's folder lacks is said, and which results have no instance.

    Raises
    ------
    SegxaiError
        If there is none, none has an instance, or pictures come with volumes.
    """
    identities, axes, empty = [], {}, []
    for path in result_files(paths):
        cover = read_cover(path)
        identities.append((path, identity(cover.provenance, cover.case)))
        axes[cover.axes] = path.name
        if not cover.instances:
            empty.append(path.name)
    if len(axes) > 1:
        (few, first), (more, second) = sorted(axes.items())[:2]
        raise SegxaiError(
            f"{first} has {few} dimensions and {second} {more}: give results of one kind"
        )
    for text in (_without_instance(empty, len(identities)), *map(_lacking, paths)):
        if text and progress is not None:
            progress.say(text)
    weights: dict[str, set[str]] = {}
    for _, row in identities:
        weights.setdefault(row["model"], set()).add(row["weights"])
    return [
        CaseFile(path, row["case"], row["patient"], row["session"], _model(row, weights))
        for path, row in identities
    ]


def _lacking(folder: Path) -> str:
    """Say which cases of a cohort's folder have no result in it; "" if all have."""
    listed = folder / COHORT
    if not listed.is_file():
        return ""
    try:
        cases = pd.read_csv(listed, dtype=str, keep_default_na=False)[["case", "file"]]
    except (OSError, ValueError, KeyError):
        return f"{listed} cannot be read: whether results are missing is not known"
    lacking = [case for case, file in cases.to_numpy() if not file or not (folder / file).is_file()]
    if not lacking:
        return ""
    return (
        f"{len(lacking)} of {plural(len(cases), 'case')} have no result in {folder}: "
        f"{_some(lacking)}"
    )


def _without_instance(empty: Sequence[str], count: int) -> str:
    """Say in which results, of so many, there is no instance; "" if all have one."""
    text = f"nothing is predicted or drawn in {len(empty)} of {plural(count, 'result')}"
    if len(empty) == count:
        raise SegxaiError(f"{text}, {_some(empty)}: there is nothing to measure")
    return f"{text}: {_some(empty)}" if empty else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (" ..." if names[MOST_NAMED:] else "")


def one_a_model(cases: Iterable[CaseFile], progress: Progress) -> list[CaseFile]:
    """Keep one result of each scan and model, the first, and say which are left out."""
    found: dict[tuple[str, str], CaseFile] = {}
    for case in cases:
        first = found.setdefault((case.case, case.model), case)
        if first is not case:
            progress.say(
                f"{case.path.name} is left out: the same scan and model as {first.path.name}"
            )
    return list(found.values())


def _model(row: Mapping[str, str], weights: Mapping[str, set[str]]) -> str:
    """Name a model: with its weights where the same one comes with several."""
    several = len(weights[row["model"]]) > 1
    return f"{row['model']} {row['weights']}" if several else row["model"]
