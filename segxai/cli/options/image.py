"""Options of the image and of the model that a plugin brings."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_shown = partial(typer.Option, rich_help_panel="Model and image")
_hidden = partial(_shown, hidden=True)

Plugin = Annotated[
    str | None,
    _shown(
        metavar="NAME",
        help="Plugin to use: see `segxai plugins`.",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Files in the plugin's channel order, or CHANNEL=FILE; default: the embedded case.",
        show_default=False,
    ),
]
Reference = Annotated[
    Path | None,
    _shown(
        metavar="MASK",
        help="Mask of the true objects, for TP, FP and FN.",
    ),
]
ReferenceLabel = Annotated[
    str | None,
    _hidden(
        metavar="N|all",
        help="Label of the class in a reference with several; default: the class's number.",
    ),
]
Regions = Annotated[
    Path | None,
    _hidden(
        metavar="MAP",
        help="Label map of regions, for the table; a JSON of the same name beside it names them.",
    ),
]
CaseName = Annotated[
    str | None,
    _hidden(
        "--case",
        metavar="NAME",
        help="Name of the case; default: sub and ses in the file's name, or else that name.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    Path | None,
    _shown(
        metavar="PATH",
        help="Weights or a model's folder to use instead of the plugin's own.",
    ),
]
WeightsKey = Annotated[
    str | None,
    _hidden(
        metavar="KEY",
        help="Weights to take from a checkpoint that holds several sets, such as ema_model.",
    ),
]
Folds = Annotated[
    list[Path] | None,
    _hidden(
        "--fold",
        metavar="PATH",
        help="Weights of a fold, once for each: how far their predictions agree on an instance.",
    ),
]
MaxVoxels = Annotated[
    int | None,
    _hidden(
        metavar="N",
        help="Largest image to read, in voxels or pixels; default: 300 million.",
        show_default=False,
    ),
]
Tta = Annotated[
    bool,
    _hidden(
        "--tta",
        help="Average over mirror images of the input, along the axes that the plugin names.",
    ),
]
Full = Annotated[
    bool,
    _hidden(
        "--full",
        help="Explain the whole embedded case, even if the plugin's default is part of it.",
    ),
]
