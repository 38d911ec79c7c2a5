"""Options of commands that read results."""

from pathlib import Path
from typing import Annotated

import typer

Result = Annotated[Path, typer.Argument(metavar="FILE", help="Result file of `segxai run`.")]
Run = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Run in the file; default: the last."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Results = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR", help="Results, and folders of results.")
]
