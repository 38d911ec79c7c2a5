"""Options of a model without a plugin."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_shown = partial(typer.Option, rich_help_panel="A model of your own, without a plugin")
_hidden = partial(_shown, hidden=True)

Model = Annotated[
    str | None,
    _shown(
        metavar="MODULE:FACTORY|FILE",
        help="Factory that makes the network, such as lesions.networks:unet; or a TorchScript or "
        "torch.export program.",
    ),
]
Bundle = Annotated[
    Path | None,
    _hidden(
        metavar="DIR",
        help="A MONAI bundle.",
    ),
]
Trust = Annotated[
    bool,
    _hidden(
        "--trust",
        help="Allow a program or a bundle to be loaded, which can run any code.",
    ),
]
Channels = Annotated[
    str | None,
    _shown(
        metavar="A,B,...",
        help="Names of the input channels, in the model's order.",
    ),
]
Classes = Annotated[
    str | None,
    _hidden(
        metavar="A,B,...",
        help="Names of the logits, in the model's order; default: counted in a trial run.",
    ),
]
Window = Annotated[
    str | None,
    _hidden(
        metavar="N,N,...",
        help="Size of the sliding window; default: the whole image at once.",
    ),
]
Overlap = Annotated[
    float | None,
    _hidden(
        metavar="X",
        help="Overlap of neighbouring windows, as a share of their size; default: 0.25.",
    ),
]
Sigmoid = Annotated[
    str | None,
    _hidden(
        "--activation",
        metavar="NAME",
        help="softmax, or sigmoid for independent (multi-label) classes; default: softmax.",
    ),
]
Normalise = Annotated[
    str | None,
    _hidden(
        metavar="HOW",
        help="none, z-score, unit, imagenet, mean:M,...;std:S,... or range:LOW,HIGH; default: "
        "none (values as in the files).",
    ),
]
Spacing = Annotated[
    float | None,
    _hidden(
        metavar="MM",
        help="Bring volumes to RAS orientation and this voxel size; default: as in the file.",
    ),
]
Output = Annotated[
    str | None,
    _hidden(
        metavar="NAME|N",
        help="Which of the tensors that the network returns has the logits, by its name or its "
        "number from 0; default: the one that is named logits or out, or the only one that fits.",
        show_default=False,
    ),
]
AlignCorners = Annotated[
    bool,
    _hidden(
        "--align-corners",
        help="Interpolate coarse logits with aligned corners, as align_corners=True does.",
    ),
]
