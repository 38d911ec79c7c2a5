"""Places: the result files that are given, by case, and whose patient a case is."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from segxai.errors import SegxaiError, one_line, option

ENDING = ".h5"
SUBJECT = re.compile(r"^(sub-[^_]+)")  # the entity of BIDS


def files_by_case(places: Sequence[Path]) -> dict[str, dict[int, Path]]:
    """Find the result files of each case.

    Parameters
    ----------
    places : sequence of Path
        Result files of one case, or folders with a file CASE.h5 for each case.

    Returns
    -------
    dict of dict of Path
        By the name of the case, then by the number of the place. Files are one case, named "".

    Raises
    ------
    SegxaiError
        If files and folders are mixed, or a folder has no result.
    """
    folders = [place for place in places if place.is_dir()]
    if folders and len(folders) < len(places):
        files = next(place for place in places if not place.is_dir())
        raise SegxaiError(
            f"{folders[0]} is a folder and {files} is not: give result files of one case, or "
            "folders of results"
        )
    if not folders:
        return {"": dict(enumerate(places))}
    found: dict[str, dict[int, Path]] = {}
    for number, folder in enumerate(folders):
        results = sorted(path for path in folder.iterdir() if path.suffix == ENDING)
        if not results:
            raise SegxaiError(f"the folder {folder} holds no result: no file ends in {ENDING}")
        for path in results:
            found.setdefault(path.stem, {})[number] = path
    return dict(sorted(found.items()))


def patients_of(cases: Iterable[str], table: Path | None) -> dict[str, str]:
    """Tell whose each case is.

    Parameters
    ----------
    table : Path, optional
        A CSV file with the columns `case` and `patient`. Without it, cases with the same BIDS
        subject (sub-X) are of one patient, and every other case is a patient of its own.

    Raises
    ------
    SegxaiError
        If the table cannot be read, lacks a column or a case, or has one twice.
    """
    if table is None:
        return {case: found[1] if (found := SUBJECT.match(case)) else case for case in cases}
    named = option("patients", table)
    try:
        rows = pd.read_csv(table, dtype=str)
    except (OSError, ValueError) as error:
        raise SegxaiError(f"{named}: the table cannot be read ({one_line(error)})") from error
    lacking = [name for name in ("case", "patient") if name not in rows]
    if lacking:
        raise SegxaiError(f"{named}: there is no column {lacking[0]}; it needs case and patient")
    twice = rows["case"][rows["case"].duplicated()]
    if len(twice):
        raise SegxaiError(f"{named}: the case {twice.iloc[0]} is there twice")
    known = dict(zip(rows["case"], rows["patient"], strict=True))
    unknown = [case for case in cases if pd.isna(known.get(case))]
    if unknown:
        raise SegxaiError(f"{named}: there is no patient for the case {unknown[0]}")
    return {case: known[case] for case in cases}
