"""Output: the tables of a comparison and how they came about, as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from segxai.compare.comparison import Compared, Comparison
from segxai.load.volumes import file_sha256
from segxai.report.output_files import ExportFolder
from segxai.store.schema import versions
from segxai.tables.files import write_table


def save_tables(
    comparison: Comparison,
    compared: Compared,
    place: ExportFolder,
    *,
    seed: int,
    verdicts: pd.DataFrame | None = None,
) -> Iterator[Path]:
    """Write the tables and the record of a comparison, and yield the files.

    `compare.csv` and `compare.parquet` have every number, `summary.csv` the means, and
    `compare.json` where each run is, the sha256 of its files, and the notes. `gate.csv` has the
    verdicts of the gate, if there are any.

    Raises
    ------
    SegxaiError
        If a file is in the way, or cannot be written.
    """
    yield _table(comparison.table, place, "compare.csv")
    yield _table(comparison.table, place, "compare.parquet")
    yield _table(comparison.summary, place, "summary.csv")
    with place.writing("compare.json") as draft:
        draft.write_text(json.dumps(_record(comparison, compared, seed), indent=2) + "\n")
    yield place.folder / "compare.json"
    if verdicts is not None:
        yield _table(verdicts, place, "gate.csv")


def _table(table: pd.DataFrame, place: ExportFolder, name: str) -> Path:
    with place.writing(name) as draft:
        write_table(table, draft)
    return place.folder / name


def _record(comparison: Comparison, compared: Compared, seed: int) -> dict[str, Any]:
    """Describe the comparison; files by name and content, never by folder."""
    return {
        "versions": versions(),
        "runs": {
            compared.names[key]: {
                "place": compared.places[key[0]].name,
                "run": key[1],
                "seed": run.seed,
                "model": run.model,
            }
            for key, run in compared.runs.items()
        },
        "files": {
            case: [
                {"place": compared.places[number].name, "sha256": file_sha256(path)}
                for number, path in files.items()
            ]
            for case, files in compared.files.items()
        },
        "patients": dict(compared.patients),
        "seed": seed,
        "notes": list(comparison.notes),
    }
