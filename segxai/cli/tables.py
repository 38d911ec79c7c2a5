"""`segxai table`: the table of explained domains, from one result or many."""

from pathlib import Path
from typing import Annotated

import typer

from segxai.cli import options

Paths = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR", help="Results, and folders of results.")
]


def table(
    paths: Paths,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv|FILE.parquet", help="Default: CSV on the screen."),
    ] = None,
    overwrite: options.OverwriteTable = False,
) -> None:
    """Write one table of all explained domains: a row for each domain of each run."""
    from segxai.tables.domains import tabulate
    from segxai.tables.files import as_csv, check_table, save_table

    if out is not None:
        check_table(out, overwrite=overwrite)
    found = tabulate(paths)
    if out is None:
        typer.echo(as_csv(found), nl=False)
        return
    save_table(found, out)
    typer.echo(f"table: {out} ({len(found)} rows)")
