"""Options of commands that load the model of a result again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segxai.run.restore import Places

Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights, if they were not the plugin's own."),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="MODULE:FACTORY|FILE", help="The model, if it was not a plugin's."),
]
Bundle = Annotated[Path | None, typer.Option(metavar="DIR", help="The model's MONAI bundle.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Allow a program or a bundle to be loaded, which can run any code."
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")]


def places_of(
    checkpoint: Checkpoint = None,
    model: Model = None,
    bundle: Bundle = None,
    trust: Trust = False,
) -> "Places":
    """Tell where the model of a result is."""
    from segxai.models.own_model import OwnModel
    from segxai.run.restore import Places

    return Places(checkpoint=checkpoint, own=OwnModel(model or "", bundle, trust))
