"""The cases of a cohort, as a CSV lists them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from segxai.errors import SegxaiError, one_line
from segxai.text import file_name

ABOUT = ("case", "patient", "session", "reference", "checkpoint", "regions")


@dataclass(frozen=True)
class CohortCase:
    """One line of a cohort.

    Parameters
    ----------
    case, patient, session : str
        Names; a case without a patient is a patient of its own.
    images : mapping
        The file of each channel; empty for a phantom.
    reference, checkpoint, regions : Path, optional
        An expert's mask, the weights to use (a fold's), a map of regions.
    phantom : int
        The number of a phantom made of the embedded case; 0 for files.
    carried : mapping
        Other columns, which are kept for the tables.
    """

    case: str
    patient: str
    session: str = ""
    images: Mapping[str, Path] = field(default_factory=dict)
    reference: Path | None = None
    checkpoint: Path | None = None
    regions: Path | None = None
    phantom: int = 0
    carried: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of its result."""
        return f"{file_name(self.case)}.h5"


def read_lines(path: Path) -> pd.DataFrame:
    """Read the CSV of a cohort: texts, "" where nothing is said.

    Raises
    ------
    SegxaiError
        If it is no such table, has no column "case", a case has no name, or two have the same.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:  # pandas' own are ValueErrors
        raise SegxaiError(f"{path} cannot be read as a CSV ({one_line(error)})") from error
    table = table.rename(columns=str.strip).map(str.strip)
    if "case" not in table or not len(table):
        raise SegxaiError(
            f"{path} lists no cases: it needs a line of names with case and a column for each "
            "channel, and a line for each case"
        )
    if not table["case"].all():
        number = int((table["case"] == "").argmax()) + 2
        raise SegxaiError(f"{path}: the case on line {number} has no name")
    files = table["case"].map(file_name).str.casefold()
    if files.duplicated().any():
        twice = table["case"][files.duplicated()].iloc[0]
        raise SegxaiError(f"{path} has the case {twice!r} twice: give each a name of its own")
    return table


def cases_of(table: pd.DataFrame, channels: Sequence[str], folder: Path) -> tuple[CohortCase, ...]:
    """Build the cases of a table.

    Parameters
    ----------
    channels : sequence of str
        Names of the files of a case: each is a column.
    folder : Path
        Where paths start from.

    Raises
    ------
    SegxaiError
        If a channel has no column, or a case no file for it.
    """
    lacking = [name for name in channels if name not in table]
    if lacking:
        raise SegxaiError(
            f"the cohort has no column {lacking[0]!r}; the model takes {', '.join(channels)}, the "
            f"columns are {', '.join(table.columns)}"
        )
    return tuple(_cases(table, channels, folder.absolute()))


def _cases(table: pd.DataFrame, channels: Sequence[str], folder: Path) -> Iterator[CohortCase]:
    others = [name for name in table.columns if name not in (*ABOUT, *channels)]
    for line in table.to_dict("records"):
        empty = [name for name in channels if not line[name]]
        if empty:
            raise SegxaiError(f"the case {line['case']!r} has no file for {empty[0]}")
        yield CohortCase(
            case=line["case"],
            patient=line.get("patient") or line["case"],
            session=line.get("session", ""),
            images={name: folder / line[name] for name in channels},
            reference=_path(line, "reference", folder),
            checkpoint=_path(line, "checkpoint", folder),
            regions=_path(line, "regions", folder),
            carried={name: line[name] for name in others},
        )


def _path(line: Mapping[str, str], name: str, folder: Path) -> Path | None:
    return folder / line[name] if line.get(name) else None


def share(cases: Sequence[CohortCase], number: int, count: int) -> tuple[CohortCase, ...]:
    """Select the cases of one shard: every `count`-th, from the `number`-th on (from 1)."""
    return tuple(cases[number - 1 :: count])
