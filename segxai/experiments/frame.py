"""The frame of all experiments: cases are measured one by one and kept, then reported together.

In the output folder, `NAME.csv` and so on are the report; what was measured in each case lies in
`cases/NAME/`, from which an interrupted experiment goes on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.drawing import save_chart
from segxai.load.volumes import file_sha256
from segxai.report.output_files import ExportFolder, make_folder
from segxai.store.atomic_file import replacing
from segxai.store.schema import difference, versions
from segxai.tables.files import read_table, write_table
from segxai.text import file_name, plural
from segxai.types import Progress

RECORD = "record.json"  # written last: a case without one was interrupted


@dataclass(frozen=True)
class Measured:
    """What was measured in one case: tidy tables, and pictures as plain arrays, by name.

    What is not complete is reported, and measured anew by the next command.
    """

    tables: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_complete: bool = True


@dataclass(frozen=True)
class Report:
    """What an experiment found: tables and figures by name ("" is the main one), and its words.

    `models` are written as JSON.
    """

    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Figure]
    text: Sequence[str]
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoSettings:
    """Settings of an experiment that has none."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment with its settings.

    Parameters
    ----------
    name : str
        Of its files.
    settings : dataclass
        What the measurements depend on; kept cases with others are not used.
    measure : callable
        Maps a case to what is measured in it.
    report : callable
        Maps the cases and what was measured in them to the report.
    """

    name: str
    settings: Any = NoSettings()
    measure: Callable[[CaseFile], Measured]
    report: Callable[[Sequence[tuple[CaseFile, Measured]]], Report]


def run_experiment(
    experiment: Experiment,
    cases: Sequence[CaseFile],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress,
) -> tuple[Report, list[Path]]:
    """Measure what is not kept from an earlier run, report, and write all files.

    Returns
    -------
    Report, list of Path
        The report, and the files that were written.

    Raises
    ------
    SegxaiError
        If the folder holds other files of these names, or cases that were measured otherwise, and
        `overwrite` is False; or a result cannot be used.
    """
    make_folder(out)
    if len({one.patient for one in cases}) == len(cases) > 1:
        progress.say("every scan is of a patient of its own, as far as the results know")
    measured, used = [], set()
    for number, case in enumerate(cases, start=1):
        progress.begin(f"{experiment.name} {number}/{len(cases)} {case.case}", 1)
        sha256 = file_sha256(case.path)
        place = out / "cases" / experiment.name / file_name(f"{case.case}-{sha256[:8]}")
        used.add(place)
        record = _record(experiment, sha256)
        found = _measured(experiment, case, place, record, overwrite, progress)
        # A model's name depends on which others are there, so what is kept may have another.
        named = {name: _of_model(table, case.model) for name, table in found.tables.items()}
        measured.append((case, replace(found, tables=named)))
    others = {path.parent for path in (out / "cases" / experiment.name).glob(f"*/{RECORD}")} - used
    if others:
        count = plural(len(others), "other result")
        progress.say(f"{out} also keeps what was measured in {count}: not in this report")
    report = experiment.report(measured)
    return report, _write(report, experiment.name, ExportFolder(out, overwrite))


def _measured(
    experiment: Experiment,
    case: CaseFile,
    place: Path,
    record: Mapping[str, Any],
    overwrite: bool,
    progress: Progress,
) -> Measured:
    """Read what was measured in a case, or measure it and keep it."""
    kept = _kept_record(place)
    differs = difference(kept, record) if kept is not None else ""
    if kept is not None and not differs:
        progress.say(f"{case.case}: kept from an earlier run")
        return _read(place)
    if differs and not overwrite:
        raise SegxaiError(
            f"{place} was measured otherwise: {differs}; name another folder, or give --overwrite"
        )
    found = experiment.measure(case)
    if found.is_complete:
        _keep(found, place, record)
    return found


def _of_model(table: pd.DataFrame, model: str) -> pd.DataFrame:
    return table.assign(model=model) if len(table) else table


def _record(experiment: Experiment, sha256: str) -> dict[str, Any]:
    """Describe what the measurements in a case depend on."""
    settings = json.loads(json.dumps(asdict(experiment.settings), default=str))
    return {"segxai": versions()["segxai"], "settings": settings, "result": sha256}


def _kept_record(place: Path) -> dict[str, Any] | None:
    path = place / RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError:
        return None
    return record


def _keep(found: Measured, place: Path, record: Mapping[str, Any]) -> None:
    make_folder(place)
    (place / RECORD).unlink(missing_ok=True)
    for name, table in found.tables.items():
        with replacing(place / f"{name}.parquet", copy=False) as draft:
            write_table(table, draft)
    pictures: dict[str, Any] = dict(found.pictures)
    with replacing(place / "pictures.npz", copy=False) as draft:
        np.savez_compressed(draft, **pictures)
    with replacing(place / RECORD, copy=False) as draft:
        draft.write_text(json.dumps(record, indent=1))


def _read(place: Path) -> Measured:
    tables = {path.stem: read_table(path) for path in sorted(place.glob("*.parquet"))}
    with np.load(place / "pictures.npz", allow_pickle=False) as pictures:
        return Measured(tables, {name: pictures[name] for name in pictures.files})


def _write(report: Report, name: str, folder: ExportFolder) -> list[Path]:
    """Write all files of a report, and list them."""
    written = []
    for part, table in report.tables.items():
        for ending in ("csv", "parquet"):
            with folder.writing(_named(name, part, ending)) as draft:
                write_table(table, draft)
            written.append(folder.folder / _named(name, part, ending))
    for part, figure in report.figures.items():
        for ending in ("png", "svg"):
            with folder.writing(_named(name, part, ending)) as draft:
                save_chart(figure, draft, ending)
            written.append(folder.folder / _named(name, part, ending))
    for part, model in report.models.items():
        with folder.writing(_named(name, part, "json")) as draft:
            draft.write_text(model, encoding="utf-8")
        written.append(folder.folder / _named(name, part, "json"))
    with folder.writing(f"{name}.txt") as draft:
        draft.write_text("\n".join(report.text) + "\n", encoding="utf-8")
    return [*written, folder.folder / f"{name}.txt"]


def _named(name: str, part: str, ending: str) -> str:
    return f"{name}_{part}.{ending}" if part else f"{name}.{ending}"


def joined(measured: Sequence[tuple[CaseFile, Measured]], table: str) -> pd.DataFrame:
    """Put the tables of this name of all cases one below the other."""
    parts = [found.tables[table] for _, found in measured if len(found.tables[table])]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
