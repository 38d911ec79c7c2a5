"""Files of tables: CSV, which everything reads, and Parquet, which keeps types."""

from pathlib import Path

import pandas as pd

from segxai.errors import SegxaiError, option
from segxai.store.atomic_file import replacing
from segxai.text import spreadsheet_cell

ENDINGS = (".csv", ".parquet")


def check_table(path: Path, *, overwrite: bool = False) -> None:
    """Check that a table may be written here, before it is made.

    Raises
    ------
    SegxaiError
        If the name has no known ending, the folder does not exist, or there is a file and
        `overwrite` is False.
    """
    if path.suffix not in ENDINGS:
        raise SegxaiError(f"{option('out', path)}: name a file that ends in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise SegxaiError(f"{option('out', path)}: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        raise SegxaiError(f"{path} exists: name another {option('out')}, or give --overwrite")


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as its name says, as a whole or not at all.

    In a CSV, texts that a spreadsheet would take for formulas have an apostrophe before them.
    """
    with replacing(path, copy=False) as draft:
        write_table(table, draft)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table to a draft; see `save_table`."""
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        path.write_text(as_csv(table), encoding="utf-8")


def as_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV; numbers are written so that they are read back exactly."""
    shown = table.map(spreadsheet_cell).rename(columns=spreadsheet_cell)
    text: str = shown.to_csv(index=False, lineterminator="\n")
    return text


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that was written as Parquet.

    Raises
    ------
    SegxaiError
        If it cannot be read.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise SegxaiError(f"{path} cannot be read as a table ({error})".splitlines()[0]) from error
