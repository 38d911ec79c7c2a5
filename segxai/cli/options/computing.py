"""Options of how it is computed."""

from functools import partial
from typing import Annotated

import typer

_shown = partial(
    typer.Option, rich_help_panel="Computing (only lowrank and lower precision change values)"
)
_hidden = partial(_shown, hidden=True)

Device = Annotated[
    str | None,
    _shown(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N.",
        show_default="auto",
    ),
]
Engine = Annotated[
    str | None,
    _hidden(
        metavar="NAME",
        help="auto, windowed (each row in its receptive field) or dense; lowrank is an "
        "approximation within --row-tolerance, for networks with instance normalisation.",
        show_default="auto",
    ),
]
RowTolerance = Annotated[
    float | None,
    _hidden(
        metavar="T",
        help="With --engine lowrank: the largest error of a row, relative to the row's peak.",
        show_default="0.003",
    ),
]
Batch = Annotated[
    int | None,
    _hidden(
        metavar="N",
        help="Maximum rows per batch; default: chosen automatically.",
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    _hidden(
        metavar="NAME",
        help="float32 or, on a GPU, tf32, whose error in some rows is measured and recorded.",
        show_default="float32",
    ),
]
