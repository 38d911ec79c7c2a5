"""The table of explained domains: one row for each map of each run, from one result or several."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from segxai.errors import SegxaiError
from segxai.report.tables import instance_table
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps, provenance_of_run, run_names
from segxai.store.schema import domain_of, group, provenance_of
from segxai.tables.saliency import map_numbers
from segxai.tables.scan import Scan

Row = dict[str, Any]
WORDS = (
    "file", "case", "patient", "session", "model", "weights", "run", "method", "aggregator",
    "score", "unit", "class", "outcome", "kind", "match", "reference_labels", "region",
    "load_from", "note",
)  # fmt: skip
FIRST = (
    "file", "case", "patient", "session", "model", "weights", "run", "method", "aggregator",
    "score", "unit", "label", "class", "outcome", "kind", "source", "match", "reference_labels",
    "reference_iou", "region", "voxels", "volume_mm3", "area_px", "load_from", "lesion_load_mm3",
    "lesion_load_px", "mean_probability", "max_probability", "mean_entropy",
    "structural_uncertainty",
)  # fmt: skip
LAST = (
    "inside_share", "estimate", "rows", "samples", "peak_error", "map_error", "map_error_l2",
    "energy_left_out", "note",
)  # fmt: skip
ERRORS = ("peak_error", "map_error", "map_error_l2", "energy_left_out")


def tabulate(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Tabulate the explained domains of results: one row for each domain of each run.

    The columns, with their units, are listed in `docs/reference/table.md`. What a result does not
    know, as an older one, is left empty. Nothing is computed by a model.

    Parameters
    ----------
    paths : path or iterable of paths
        Result files, and folders of them.

    Returns
    -------
    DataFrame
        In the order of the files, of their runs and of the labels.

    Raises
    ------
    SegxaiError
        If a file is not a result, or is damaged; or there is none.

    Examples
    --------
    >>> table = segxai.tabulate("cohort")  # doctest: +SKIP
    >>> table[table["score"] == "logit"].groupby("outcome")["flair_peak"].median()  # doctest: +SKIP
    """
    rows = [row for path in result_files(paths) for row in _rows_of_file(path)]
    return frame_of(rows)


def result_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """List result files: those that are given, and those in the folders that are given, by name.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(one) for one in paths]
    found = [
        file for path in given for file in (sorted(_results_in(path)) if path.is_dir() else [path])
    ]
    if not found:
        raise SegxaiError(
            f"no result file (.h5) in {', '.join(map(str, given)) or 'nothing'}; name results of "
            "`segxai run`, or folders of them"
        )
    return list(dict.fromkeys(found))


def _results_in(folder: Path) -> Iterator[Path]:
    return (one for one in folder.glob("*.h5") if not one.name.startswith("."))


def _rows_of_file(path: Path) -> Iterator[Row]:
    with open_result(path) as tree:
        yield from ({"file": path.name, **row} for row in rows_of(tree))


def rows_of(tree: xr.DataTree) -> Iterator[Row]:
    """Yield the rows of an open result, run by run and by increasing label."""
    scan, identity = Scan.of(tree), identity_of(tree)
    domains: dict[int, Row] = {}  # what does not depend on the run
    for name in run_names(tree):
        run = {**identity, **_run_columns(tree, name)}
        found = maps(tree, name)
        for summary in instance_table(tree, name):
            label, stored = summary["label"], found[summary["label"]]
            if label not in domains:
                voxels = np.argwhere(domain_of(stored, scan.grid.shape))
                domains[label] = scan.columns(label, voxels)
            row = {**run, "label": label, **domains[label], "unit": _unit(stored, run["score"])}
            facts = _fact_columns(found.facts(label), run["score"])
            yield row | _summary_columns(summary) | facts | map_numbers(stored, scan.grid)


def identity_of(tree: xr.DataTree) -> Row:
    """Return the columns that say whose result it is and of which model."""
    return identity(provenance_of(group(tree, "/")), str(group(tree, "input").attrs["case"]))


def identity(provenance: Mapping[str, Any], case: str) -> Row:
    """Name a case and its model from the case's provenance.

    A scan without a patient's name is a patient of its own.
    """
    known, weights = provenance.get("case", {}), provenance.get("weights") or {}
    return {
        "case": case,
        "patient": known.get("patient") or case,
        "session": known.get("session", ""),
        "model": provenance.get("plugin", {}).get("name", ""),
        "weights": weights.get("sha256", "")[:12],
    }


def _run_columns(tree: xr.DataTree, name: str) -> Row:
    how = provenance_of_run(tree, name)
    words = {key: how.get(key) or "" for key in ("method", "aggregator", "score")}
    return {"run": name, **words}


def _unit(stored: xr.Dataset, score: str) -> str:
    return str(stored["map"].attrs["units"]).replace("score", score or "score", 1)


def _fact_columns(facts: Mapping[str, Any], score: str) -> Row:
    """Take what is known of how a map was made; the spread of the score only where it is known."""
    spread = facts.get("score_deviation")
    known = {} if spread is None else {deviation_of(score): spread}
    return {name: facts.get(name) for name in ("rows", "samples")} | known


def deviation_of(score: str) -> str:
    """Name the column of a score's standard deviation over noisy copies."""
    return f"noisy_{score}_deviation"


def _summary_columns(summary: Row) -> Row:
    """Take peaks, troughs and reservations from the row of a run's own table."""
    numbers = {
        name.replace(" ", "_"): value
        for name, value in summary.items()
        if name.endswith((" peak", " trough"))
    }
    kept = ("estimate", *ERRORS, "note")
    return numbers | {name: summary[name] for name in kept if name in summary}


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Build the table, with all its columns in their order even if it has no row."""
    rows = [{**dict.fromkeys(WORDS, ""), **row} for row in rows]
    middle = dict.fromkeys(name for row in rows for name in row if name not in (*FIRST, *LAST))
    sizes = {name for row in rows for name in row if name.endswith(("_mm3", "_px"))}
    first = [name for name in FIRST if not name.endswith(("_mm3", "_px")) or name in sizes]
    table = pd.DataFrame(rows, columns=[*first, *middle, *LAST])
    numbers = [name for name in table if name not in (*WORDS, "label", "estimate")]
    kinds = {**dict.fromkeys(WORDS, str), **dict.fromkeys(numbers, float)}
    return table.astype({**kinds, "label": int, "estimate": bool})
