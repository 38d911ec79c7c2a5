"""Options of what is written."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_shown = partial(typer.Option, rich_help_panel="Output")
_hidden = partial(_shown, hidden=True)

Out = Annotated[
    Path | None,
    _shown(
        metavar="FILE.h5",
        help="Result file; default: ./PLUGIN_CASE.h5.",
    ),
]
Crop = Annotated[
    float | None,
    _hidden(
        metavar="MM",
        help="Crop maps this far from the instance; the discarded share is recorded.",
    ),
]
Overwrite = Annotated[
    bool,
    _shown(
        "--overwrite",
        help="Replace FILE.h5, and any FILE.png.",
    ),
]
Append = Annotated[
    bool,
    _shown(
        "--append",
        help="Add a run, or more instances, to FILE.h5.",
    ),
]
DryRun = Annotated[
    bool,
    _shown(
        "--dry-run",
        help="Print what the run would cost and exit.",
    ),
]
OverwriteFiles = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files that segxai did not write, or that changed."),
]
OverwriteTable = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
