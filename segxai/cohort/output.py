"""The tables of a cohort: what became of each case, its explained domains, the model's scores."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from segxai.cohort.cases import CohortCase
from segxai.cohort.work import FAILED, Report
from segxai.errors import SegxaiError
from segxai.report.output_files import ExportFolder
from segxai.store.hdf5 import open_result
from segxai.tables.domains import frame_of, tabulate
from segxai.tables.files import write_table
from segxai.tables.scores import scores_of

OUTCOMES = ("TP", "FP", "FN", "TN")
PART = re.compile(r"cases-(\d+)-of-(\d+)\.parquet")


def reports_table(cases: Sequence[CohortCase], reports: Mapping[str, Report]) -> pd.DataFrame:
    """Build the table of what became of each case, in the cohort's order, with its own columns."""
    rows = [{**reports[one.case].columns, **one.carried} for one in cases if one.case in reports]
    return pd.DataFrame(rows)


def part_name(number: int, count: int) -> str:
    """Name the table of one shard."""
    return f"cases-{number}-of-{count}.parquet"


def save_part(folder: Path, table: pd.DataFrame, number: int, count: int) -> Path:
    """Write what became of the cases of a shard, for `join`."""
    return next(_save(folder, {part_name(number, count): table}))


def join_parts(folder: Path) -> pd.DataFrame:
    """Read what became of the cases of all shards of a cohort.

    Raises
    ------
    SegxaiError
        If there are none, some are missing, or they belong to different divisions.
    """
    found = {path: PART.fullmatch(path.name) for path in folder.glob("cases-*-of-*.parquet")}
    parts = {int(one[1]): path for path, one in found.items() if one}
    counts = {int(one[2]) for one in found.values() if one}
    if len(counts) != 1:
        what = "no shards" if not counts else f"shards of {' and of '.join(map(str, counts))}"
        raise SegxaiError(f"{folder} holds {what}: give the folder of one cohort run with --shard")
    (count,) = counts
    missing = [number for number in range(1, count + 1) if number not in parts]
    if missing:
        raise SegxaiError(
            f"{folder} lacks shard {missing[0]} of {count}: run it with --shard "
            f"{missing[0]}/{count}, or copy its files there"
        )
    tables = [pd.read_parquet(parts[number]) for number in sorted(parts)]
    return _interleaved(tables)


def _interleaved(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the lines of shards back into the order of the cohort: every n-th is of one shard."""
    whole = pd.concat(
        [
            one.assign(_place=[number + len(tables) * n for n in range(len(one))])
            for number, one in enumerate(tables)
        ]
    )
    return whole.sort_values("_place").drop(columns="_place").reset_index(drop=True)


def save_tables(folder: Path, cases: pd.DataFrame) -> Iterator[Path]:
    """Write all tables of a cohort from its results, and yield their paths.

    Parameters
    ----------
    cases : DataFrame
        What became of each case; other columns than those of a report go into the table of domains.
    """
    files = [folder / name for name in cases["file"] if name]
    domains = tabulate(files) if files else frame_of([])
    with ExitStack() as stack:
        scores = scores_of(stack.enter_context(open_result(path)) for path in files)
    own = set(Report.__dataclass_fields__) - {"case"}
    known = {*own, *domains} - {"case"}
    carried = cases[[name for name in cases if name not in known]]
    counted = cases.merge(_counts(domains), on="case", how="left")
    yield from _save(
        folder,
        {
            "cases.csv": counted,
            "instances.csv": domains.merge(carried, on="case", how="left"),
            "instances.parquet": domains.merge(carried, on="case", how="left"),
            "scores.csv": scores,
        },
    )


def _counts(domains: pd.DataFrame) -> pd.DataFrame:
    """Count the explained domains of each case by outcome."""
    once = domains.drop_duplicates(["case", "label"])
    counts: dict[str, Any] = {
        name: once[once["outcome"] == name].groupby("case").size() for name in OUTCOMES
    }
    table = pd.DataFrame({"domains": once.groupby("case").size(), **counts})
    return table.fillna(0).astype(int).rename_axis("case").reset_index()


def _save(folder: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[Path]:
    place = ExportFolder(folder)
    for name, table in tables.items():
        with place.writing(name) as draft:
            write_table(table, draft)
        yield folder / name


def failed(cases: pd.DataFrame) -> int:
    """Count the cases that failed."""
    return int((cases["status"] == FAILED).sum())
