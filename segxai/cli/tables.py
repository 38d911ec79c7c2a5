"""`segxai table` and `flag`: the table of explained domains, from one result or many."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segxai.cli.options import output, results

if TYPE_CHECKING:
    import pandas as pd

TableFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv|FILE.parquet", help="File to write; default: CSV on the screen."
    ),
]


def table(
    paths: results.Results,
    out: TableFile = None,
    overwrite: output.OverwriteTable = False,
) -> None:
    """Write one table of all explained domains: a row for each domain of each run."""
    from segxai.tables.domains import tabulate

    _write(lambda: tabulate(paths), out, overwrite=overwrite)


def flag(
    paths: results.Results,
    model: Annotated[
        Path,
        typer.Option(
            "--with", metavar="MODEL.json", help="Model that `segxai experiment flags` wrote."
        ),
    ],
    out: TableFile = None,
    overwrite: output.OverwriteTable = False,
) -> None:
    """Write the table of explained domains with a flag on those that look like false alarms."""
    from segxai.experiments.flags.model import FlagModel, flagged
    from segxai.tables.domains import tabulate

    known = FlagModel.read(model)
    _write(lambda: flagged(tabulate(paths), known), out, overwrite=overwrite)


def _write(make: Callable[[], "pd.DataFrame"], out: Path | None, *, overwrite: bool) -> None:
    """Make a table, and write it to a file or to the screen."""
    from segxai.tables.files import as_csv, check_table, save_table

    if out is not None:
        check_table(out, overwrite=overwrite)
    found = make()
    if out is None:
        typer.echo(as_csv(found), nl=False)
        return
    save_table(found, out)
    typer.echo(f"table: {out} ({len(found)} rows)")
