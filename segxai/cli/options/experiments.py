"""Options of the experiments."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder for tables, figures and texts; made if new.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Measure again what was measured with other settings, and replace files that segxai "
        "did not write.",
    ),
]
Volume = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|all",
        help="Smallest and largest volume of the instances, in mm3 (pixels in pictures); default: "
        "the paper's 90,120 if any instance has it, otherwise all.",
        show_default=False,
    ),
]
Outcomes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Outcomes of the instances, such as TP,FN; default: TP, and those without an outcome.",
        show_default=False,
    ),
]
ContextFills = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="What replaces the surroundings: zero, black, dark, healthy or blurred; default: "
        "all of them.",
        show_default=False,
    ),
]
Steps = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Distances in mm (pixels) up to which the image is given back; default: 0 to 25.",
        show_default=False,
    ),
]
Dilation = Annotated[
    bool, typer.Option(help="Also give back by dilation, as the paper's scripts do.")
]
BackgroundFills = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="What fills the background outside of the head: zero, black, dark or healthy; "
        "default: zero,black,dark.",
        show_default=False,
    ),
]
Where = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK",
        help="Tissue that lesions are moved to, on the grid of the images; default: healthy "
        "tissue as bright as the surroundings of the lesions.",
        show_default=False,
    ),
]
Label = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Lesion to move; default: of the larger half, that of the highest probability.",
    ),
]
Places = Annotated[
    int,
    typer.Option(metavar="N", help="Places to try for each way of moving it, and for each size."),
]
Contrasts = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Contrasts of made-up lesions, as multiples of the lesion's own; default: 0 to 2.",
        show_default=False,
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Volumes of made-up lesions, in mm3 (pixels in pictures); default: 10,30,93,300, "
        "in pictures a quarter to twice the median area.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the places.")]
Cut = Annotated[
    float,
    typer.Option(metavar="X", help="Leave smaller magnitudes out of medians; the paper's is 0.1."),
]
Shapley = Annotated[
    bool, typer.Option(help="Also compute the channels' Shapley values with the model.")
]
ChannelFill = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What replaces a channel for its Shapley value: healthy, zero, dark, black, blurred.",
    ),
]
Within = Annotated[
    str,
    typer.Option(metavar="domain|image", help="Replace it in the domain, or in the whole image."),
]
