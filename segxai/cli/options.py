"""The options of the commands, in the groups in which their help shows them."""

from pathlib import Path
from typing import Annotated

import typer

MODEL = "Model and image"
INSTANCES = "What is explained"
METHOD = "How it is explained"
OUTPUT = "Output"
COMPUTING = "Computing (changes values only by lowrank and lower precision)"

Plugin = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which model: see `segxai plugins`.", rich_help_panel=MODEL),
]
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Files in the plugin's channel order, or CHANNEL=FILE; none: the embedded case.",
        show_default=False,
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK", help="The true objects, for TP, FP and FN.", rich_help_panel=MODEL
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Weights, or a model's folder, instead of the plugin's own.",
        rich_help_panel=MODEL,
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average over mirror images of the input, along the axes that the plugin names.",
        rich_help_panel=MODEL,
    ),
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Explain the whole embedded case, where the plugin would take a part of it.",
        rich_help_panel=MODEL,
    ),
]

ClassName = Annotated[
    str | None,
    typer.Option(
        "--class", metavar="NAME", help="Default: the plugin's.", rich_help_panel=INSTANCES
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Probability above which a voxel counts, or score from which a detection does; "
        "default: the plugin's (of models of many classes: where the class wins).",
        rich_help_panel=INSTANCES,
    ),
]
ClassIndex = Annotated[
    int | None,
    typer.Option(
        "--class-index",
        metavar="N",
        help="The class by its number, from 0.",
        rich_help_panel=INSTANCES,
    ),
]
MinVolume = Annotated[
    float | None,
    typer.Option(
        metavar="MM3",
        help="Smallest instance, of pictures in pixels; default: the plugin's.",
        rich_help_panel=INSTANCES,
    ),
]
Instances = Annotated[
    str | None,
    typer.Option(
        metavar="all|1,2,5|MASK|sphere:X,Y,Z,R",
        help="Labels of the table; or an integer mask of your own, one instance a label; or balls, "
        "in mm.",
        show_default="all",
        rich_help_panel=INSTANCES,
    ),
]
Split = Annotated[
    bool,
    typer.Option(
        "--split",
        help="Every connected component of the MASK is an instance.",
        rich_help_panel=INSTANCES,
    ),
]

Method = Annotated[
    str, typer.Option(metavar="NAME", help="See `segxai methods`.", rich_help_panel=METHOD)
]
Aggregator = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Over an instance's voxels: signed_max or mean; default: the method's.",
        rich_help_panel=METHOD,
    ),
]
Samples = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Noisy copies; auto: until their error is within the tolerance.",
        show_default="50",
        rich_help_panel=METHOD,
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Where --samples auto stops: the largest standard error of a voxel, over the map's "
        "peak; default: 0.03. Or that of --engine lowrank.",
        rich_help_panel=METHOD,
    ),
]
Antithetic = Annotated[
    bool,
    typer.Option(
        "--antithetic",
        help="Noisy copies in pairs, with opposite noise.",
        rich_help_panel=METHOD,
    ),
]
Noise = Annotated[
    float,
    typer.Option(
        metavar="X", help="Standard deviation of the noise, in its unit.", rich_help_panel=METHOD
    ),
]
NoiseUnit = Annotated[
    str,
    typer.Option(
        metavar="UNIT",
        help="range or p99 of each channel's foreground, or absolute.",
        rich_help_panel=METHOD,
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Of a CAM method; default: the plugin's.", rich_help_panel=METHOD
    ),
]
Score = Annotated[
    str,
    typer.Option(metavar="NAME", help="logit, margin or probability.", rich_help_panel=METHOD),
]
Rows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Estimate a map from so many of its instance's voxels.",
        rich_help_panel=METHOD,
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Of the noise and of sampled rows.", rich_help_panel=METHOD)
]

Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE.h5", help="Default: PLUGIN_CASE.h5 here.", rich_help_panel=OUTPUT),
]
Crop = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Cut maps at this distance; what is left out is recorded.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace FILE.h5.", rich_help_panel=OUTPUT)
]
Append = Annotated[
    bool,
    typer.Option(
        "--append", help="Add a run, or more instances, to FILE.h5.", rich_help_panel=OUTPUT
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what it would cost, and stop.", rich_help_panel=OUTPUT),
]

Device = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", rich_help_panel=COMPUTING),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, windowed (rows in their receptive field) or dense; lowrank is an "
        "approximation within --tolerance (default: 0.003 of a row's peak), for networks with "
        "instance normalisation.",
        rich_help_panel=COMPUTING,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Rows computed at once, at most; default: what suits the network.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="float32, tf32 or bfloat16; the error of the last two is measured and kept.",
        rich_help_panel=COMPUTING,
    ),
]

Result = Annotated[Path, typer.Argument(metavar="FILE", help="A result file of `segxai run`.")]
Run = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Which run of the file; default: the last."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
