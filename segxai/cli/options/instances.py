"""Options of what is explained."""

from functools import partial
from typing import Annotated

import typer

_shown = partial(typer.Option, rich_help_panel="What is explained")
_hidden = partial(_shown, hidden=True)

ClassName = Annotated[
    str | None,
    _shown(
        "--class",
        metavar="NAME",
        help="Class to explain; default: the plugin's.",
    ),
]
Threshold = Annotated[
    float | None,
    _shown(
        metavar="P",
        help="Probability above which a voxel counts, or lowest score at which a detection does; "
        "default: the plugin's (for models of many classes: where the class wins).",
    ),
]
ClassIndex = Annotated[
    int | None,
    _hidden(
        "--class-index",
        metavar="N",
        help="Class to explain, by number from 0.",
    ),
]
MinVolume = Annotated[
    float | None,
    _hidden(
        metavar="MM3",
        help="Smallest instance (in pixels for pictures); default: the plugin's.",
    ),
]
Instances = Annotated[
    str | None,
    _shown(
        metavar="1,2,5|MASK|FILE.h5|sphere:X,Y,Z,R",
        help="Labels of the predicted instances; or an integer mask of your own, one instance per "
        "label; or the instances of another result; or balls, in mm.",
        show_default="all predicted",
    ),
]
Labels = Annotated[
    str | None,
    _hidden(
        metavar="1,2,5",
        help="Which of the instances to explain.",
        show_default="all",
    ),
]
Connectivity = Annotated[
    int | None,
    _hidden(
        metavar="1|2|3",
        help="Neighbours within an instance: over faces, edges or corners; default: the plugin's.",
    ),
]
Controls = Annotated[
    str | None,
    _hidden(
        metavar="KIND,...",
        help="Explain healthy tissue, too: spheres (ten of 93 mm3), matched (each domain, moved), "
        "or both; needs --reference.",
        show_default=False,
    ),
]
Match = Annotated[
    str | None,
    _hidden(
        metavar="any|iou:T|one-to-one",
        help="What makes a TP against --reference: any overlap, an intersection over union of T or "
        "more, or the best pairs.",
        show_default="any",
    ),
]
Split = Annotated[
    bool,
    _hidden(
        "--split",
        help="Make every connected component of MASK an instance.",
    ),
]
