"""Options of how it is explained."""

from functools import partial
from typing import Annotated

import typer

_shown = partial(typer.Option, rich_help_panel="How it is explained")
_hidden = partial(_shown, hidden=True)

Method = Annotated[
    str | None,
    _shown(
        metavar="NAME",
        help="See `segxai methods`.",
        show_default="smoothgrad",
    ),
]
Set = Annotated[
    list[str] | None,
    _hidden(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the method's own, see `segxai methods METHOD`; can be repeated.",
    ),
]
Aggregator = Annotated[
    str | None,
    _shown(
        metavar="NAME,...",
        help="How to aggregate over voxels: signed_max or mean; default: the method's.",
    ),
]
Samples = Annotated[
    str | None,
    _shown(
        metavar="N|auto",
        help="Number of noisy copies; auto: as many as --tolerance needs.",
        show_default="50",
    ),
]
Tolerance = Annotated[
    float | None,
    _hidden(
        metavar="T",
        help="Where --samples auto stops: the largest standard error of a voxel, relative to the "
        "map's peak.",
        show_default="0.03",
    ),
]
Antithetic = Annotated[
    bool | None,
    _hidden(
        "--antithetic",
        help="Make noisy copies in pairs with opposite noise.",
    ),
]
Noise = Annotated[
    float | None,
    _hidden(
        metavar="X",
        help="Standard deviation of the noise, in --noise-unit.",
        show_default="0.05",
    ),
]
NoiseUnit = Annotated[
    str | None,
    _hidden(
        metavar="UNIT",
        help="Unit of the noise: range or p99 of each channel's foreground, or absolute.",
        show_default="range",
    ),
]
Layer = Annotated[
    str | None,
    _hidden(
        metavar="NAME",
        help="Layer of a CAM method; default: the plugin's, or chosen by a trial on the image.",
    ),
]
LayerLayout = Annotated[
    str | None,
    _hidden(
        metavar="NAME",
        help="Axes of the layer's output, if a trial cannot tell: channels_first, channels_last, "
        "tokens, or tokens:14,14 with their number along each axis.",
    ),
]
Score = Annotated[
    str | None,
    _shown(
        metavar="NAME,...",
        help="logit, margin or probability; each pair of aggregator and score is a run.",
        show_default="logit",
    ),
]
Contrast = Annotated[
    str | None,
    _hidden(
        metavar="border|class:NAME",
        help="Explain a difference: across the border, or to another class (methods without rows).",
    ),
]
Rows = Annotated[
    int | None,
    _shown(
        metavar="N",
        help="Estimate each map from at most N of its instance's voxels.",
    ),
]
Seed = Annotated[
    int | None,
    _hidden(
        metavar="N",
        help="Seed of the noise and of sampled rows.",
        show_default="0",
    ),
]
