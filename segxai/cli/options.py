"""The options of the commands, grouped as their help shows them."""

from pathlib import Path
from typing import Annotated, Any

import typer

MODEL = "Model and image"
INSTANCES = "What is explained"
METHOD = "How it is explained"
OUTPUT = "Output"
COMPUTING = "Computing (only lowrank and lower precision change values)"

Plugin = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Plugin to use: see `segxai plugins`.", rich_help_panel=MODEL
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
    typer.Option(
        metavar="MASK", help="Mask of the true objects, for TP, FP and FN.", rich_help_panel=MODEL
    ),
]
ReferenceLabel = Annotated[
    str | None,
    typer.Option(
        metavar="N|all",
        help="Label of the class in a reference with several; default: the class's number.",
        rich_help_panel=MODEL,
        hidden=True,
    ),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        metavar="MAP",
        help="Label map of regions, for the table; a JSON of the same name beside it names them.",
        rich_help_panel=MODEL,
        hidden=True,
    ),
]
CaseName = Annotated[
    str | None,
    typer.Option(
        "--case",
        metavar="NAME",
        help="Name of the case; default: sub and ses in the file's name, or else that name.",
        rich_help_panel=MODEL,
        show_default=False,
        hidden=True,
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Weights or a model's folder to use instead of the plugin's own.",
        rich_help_panel=MODEL,
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Weights to take from a checkpoint that holds several sets, such as ema_model.",
        rich_help_panel=MODEL,
        hidden=True,
    ),
]
MaxVoxels = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Largest image to read, in voxels or pixels; default: 300 million.",
        rich_help_panel=MODEL,
        show_default=False,
        hidden=True,
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average over mirror images of the input, along the axes that the plugin names.",
        rich_help_panel=MODEL,
        hidden=True,
    ),
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Explain the whole embedded case, even if the plugin's default is part of it.",
        rich_help_panel=MODEL,
        hidden=True,
    ),
]

ClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Class to explain; default: the plugin's.",
        rich_help_panel=INSTANCES,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Probability above which a voxel counts, or lowest score at which a detection does; "
        "default: the plugin's (for models of many classes: where the class wins).",
        rich_help_panel=INSTANCES,
    ),
]
ClassIndex = Annotated[
    int | None,
    typer.Option(
        "--class-index",
        metavar="N",
        help="Class to explain, by number from 0.",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
MinVolume = Annotated[
    float | None,
    typer.Option(
        metavar="MM3",
        help="Smallest instance (in pixels for pictures); default: the plugin's.",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
Instances = Annotated[
    str | None,
    typer.Option(
        metavar="1,2,5|MASK|FILE.h5|sphere:X,Y,Z,R",
        help="Labels of the predicted instances; or an integer mask of your own, one instance per "
        "label; or the instances of another result; or balls, in mm.",
        show_default="all predicted",
        rich_help_panel=INSTANCES,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="1,2,5",
        help="Which of the instances to explain.",
        show_default="all",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
Connectivity = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|3",
        help="Neighbours within an instance: over faces, edges or corners; default: the plugin's.",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
Controls = Annotated[
    str | None,
    typer.Option(
        metavar="KIND,...",
        help="Explain healthy tissue, too: spheres (ten of 93 mm3), matched (each domain, moved), "
        "or both; needs --reference.",
        show_default=False,
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
Match = Annotated[
    str | None,
    typer.Option(
        metavar="any|iou:T|one-to-one",
        help="What makes a TP against --reference: any overlap, an intersection over union of T or "
        "more, or the best pairs.",
        show_default="any",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]
Split = Annotated[
    bool,
    typer.Option(
        "--split",
        help="Make every connected component of MASK an instance.",
        rich_help_panel=INSTANCES,
        hidden=True,
    ),
]

Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="See `segxai methods`.",
        show_default="smoothgrad",
        rich_help_panel=METHOD,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the method's own, see `segxai methods METHOD`; can be repeated.",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Aggregator = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="How to aggregate over voxels: signed_max or mean; default: the method's.",
        rich_help_panel=METHOD,
    ),
]
Samples = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Number of noisy copies; auto: as many as --tolerance needs.",
        show_default="50",
        rich_help_panel=METHOD,
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Where --samples auto stops: the largest standard error of a voxel, relative to the "
        "map's peak.",
        show_default="0.03",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Antithetic = Annotated[
    bool | None,
    typer.Option(
        "--antithetic",
        help="Make noisy copies in pairs with opposite noise.",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Standard deviation of the noise, in --noise-unit.",
        show_default="0.05",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
NoiseUnit = Annotated[
    str | None,
    typer.Option(
        metavar="UNIT",
        help="Unit of the noise: range or p99 of each channel's foreground, or absolute.",
        show_default="range",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Layer of a CAM method; default: the plugin's, or chosen by a trial on the image.",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
LayerLayout = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Axes of the layer's output, if a trial cannot tell: channels_first, channels_last, "
        "tokens, or tokens:14,14 with their number along each axis.",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="logit, margin or probability; each pair of aggregator and score is a run.",
        show_default="logit",
        rich_help_panel=METHOD,
    ),
]
Contrast = Annotated[
    str | None,
    typer.Option(
        metavar="border|class:NAME",
        help="Explain a difference: across the border, or to another class (methods without rows).",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]
Rows = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Estimate each map from at most N of its instance's voxels.",
        rich_help_panel=METHOD,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Seed of the noise and of sampled rows.",
        show_default="0",
        rich_help_panel=METHOD,
        hidden=True,
    ),
]

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.h5", help="Result file; default: ./PLUGIN_CASE.h5.", rich_help_panel=OUTPUT
    ),
]
Crop = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Crop maps this far from the instance; the discarded share is recorded.",
        rich_help_panel=OUTPUT,
        hidden=True,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace FILE.h5, and any FILE.png.", rich_help_panel=OUTPUT),
]
OverwriteFiles = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace files that segxai did not write, or that changed."),
]
OverwriteTable = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Append = Annotated[
    bool,
    typer.Option(
        "--append", help="Add a run, or more instances, to FILE.h5.", rich_help_panel=OUTPUT
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print what the run would cost and exit.", rich_help_panel=OUTPUT
    ),
]

Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N.",
        show_default="auto",
        rich_help_panel=COMPUTING,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, windowed (each row in its receptive field) or dense; lowrank is an "
        "approximation within --row-tolerance, for networks with instance normalisation.",
        show_default="auto",
        rich_help_panel=COMPUTING,
        hidden=True,
    ),
]
RowTolerance = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="With --engine lowrank: the largest error of a row, relative to the row's peak.",
        show_default="0.003",
        rich_help_panel=COMPUTING,
        hidden=True,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Maximum rows per batch; default: chosen automatically.",
        rich_help_panel=COMPUTING,
        hidden=True,
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="float32 or, on a GPU, tf32, whose error in some rows is measured and recorded.",
        show_default="float32",
        rich_help_panel=COMPUTING,
        hidden=True,
    ),
]

Result = Annotated[Path, typer.Argument(metavar="FILE", help="Result file of `segxai run`.")]
Run = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Run in the file; default: the last."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _show_all_options(context: Any, wanted: bool) -> bool:
    """Print the help with every option, and exit."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False
        typer.echo(context.get_help())
        raise typer.Exit
    return wanted


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        callback=_show_all_options,
        is_eager=True,
        help="Show every option and exit.",
    ),
]
