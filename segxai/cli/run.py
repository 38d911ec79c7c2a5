"""`segxai run`: from the command's options to a task, its table and its files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segxai.cli.checks import (
    check_files,
    check_images,
    check_names,
    check_out,
    check_written,
    pictures_of,
)
from segxai.cli.options import computing, help_all, image, instances, method, output, own_model
from segxai.cli.parsing import files_by_channel
from segxai.cli.request import Output, Request
from segxai.errors import SegxaiError
from segxai.load.limits import at_most
from segxai.text import file_name

if TYPE_CHECKING:
    from segxai.cli.terminal import TerminalProgress
    from segxai.plugins.adapter import Adapter
    from segxai.run.options import Options
    from segxai.run.prepare import Task
    from segxai.types import Case

GOES_ON = "what was finished is kept, and the same command continues from there"


def run(
    plugin: image.Plugin = None,
    images: image.Images = None,
    reference: image.Reference = None,
    reference_label: image.ReferenceLabel = None,
    regions: image.Regions = None,
    case_name: image.CaseName = None,
    checkpoint: image.Checkpoint = None,
    weights_key: image.WeightsKey = None,
    folds: image.Folds = None,
    max_voxels: image.MaxVoxels = None,
    tta: image.Tta = False,
    full: image.Full = False,
    model: own_model.Model = None,
    bundle: own_model.Bundle = None,
    trust: own_model.Trust = False,
    channels: own_model.Channels = None,
    classes: own_model.Classes = None,
    window: own_model.Window = None,
    overlap: own_model.Overlap = None,
    activation: own_model.Sigmoid = None,
    normalise: own_model.Normalise = None,
    spacing: own_model.Spacing = None,
    output: own_model.Output = None,
    align_corners: own_model.AlignCorners = False,
    class_name: instances.ClassName = None,
    class_index: instances.ClassIndex = None,
    threshold: instances.Threshold = None,
    min_volume: instances.MinVolume = None,
    connectivity: instances.Connectivity = None,
    match: instances.Match = None,
    instances: instances.Instances = None,
    labels: instances.Labels = None,
    controls: instances.Controls = None,
    split: instances.Split = False,
    method: method.Method = None,
    method_options: method.Set = None,
    aggregator: method.Aggregator = None,
    samples: method.Samples = None,
    tolerance: method.Tolerance = None,
    antithetic: method.Antithetic = None,
    noise: method.Noise = None,
    noise_unit: method.NoiseUnit = None,
    layer: method.Layer = None,
    layer_layout: method.LayerLayout = None,
    score: method.Score = None,
    contrast: method.Contrast = None,
    rows: method.Rows = None,
    seed: method.Seed = None,
    out: output.Out = None,
    crop: output.Crop = None,
    overwrite: output.Overwrite = False,
    append: output.Append = False,
    dry_run: output.DryRun = False,
    device: computing.Device = None,
    engine: computing.Engine = None,
    row_tolerance: computing.RowTolerance = None,
    batch: computing.Batch = None,
    precision: computing.Precision = None,
    help_all: help_all.HelpAll = False,
) -> None:
    """Explain the instances that a model finds in an image.

    Prints a table, writes all maps to FILE.h5 and a picture to FILE.png.
    After an interruption, the same command continues where it stopped.
    """
    request = Request.of(locals())
    with at_most(max_voxels):
        _run(request)


def _run(request: Request) -> None:
    from segxai.run.options import Options

    words, files, output = request.words, request.files, request.output
    found = Options.of(**request.asked)  # what makes no sense should not wait for the model
    words.check()
    check_names(words.plugin, found)
    check_files(files, found, output)
    check_images(words, files)
    from segxai.run.resolve import choose  # PyTorch: what can be told without it comes first

    choose(found)
    from segxai.cli.progress import watched
    from segxai.pipeline import choose_runs, explain_case
    from segxai.run.prepare import prepare
    from segxai.store.atomic_file import resolved, sole_writer

    with watched(afterwards=GOES_ON) as progress:
        adapter, *folds = _adapters(request)
        found = _options(adapter, request, progress)
        case = _case(adapter, request)
        task = prepare(adapter, case, found, folds=folds, progress=progress)
        out = output.out or Path(file_name(f"{words.plugin or adapter.name}_{task.case.name}.h5"))
        out = resolved(out)
        check_out(out, files, found, overwrite=output.overwrite)
        if output.dry_run:
            cost = _estimate(task, out, output)
            progress.close()
            typer.echo(cost)
            return
        with sole_writer(out):
            places = {"append": output.append, "overwrite": output.overwrite}
            pictures = pictures_of(out, choose_runs(task, out, **places))
            check_written((out, *pictures), files, found, overwrite=output.overwrite)
            names = explain_case(task, out, **places)
        progress.close()
        _report(out, names, overwrite=output.overwrite)


def _adapters(request: Request) -> tuple["Adapter", ...]:
    """Load the adapter of a plugin, or make that of your own model, and those of its folds."""
    images = request.files.images
    from segxai.load.reader import input_names

    def files_of(channels: tuple[str, ...]) -> dict[str, Path]:
        return files_by_channel(images, input_names(channels, images))

    return request.model.load(files_of), *request.model.load_folds(files_of)


def _options(adapter: "Adapter", request: Request, progress: "TerminalProgress") -> "Options":
    """Build the options; of a slow model's embedded case, explain part unless --full is given."""
    from segxai.run.options import Options

    if request.files.images or request.part.is_whole:
        return Options.of(**request.asked)
    usual = dict(adapter.embedded_options)
    if request.part.is_chosen:
        usual.pop("labels", None)
    usual = {name: value for name, value in usual.items() if name not in request.asked}
    if usual:
        words = ", ".join(f"{name} {_in_words(value)}" for name, value in usual.items())
        progress.say(f"Explaining part of the embedded case ({words}); use --full for all of it.")
    return Options.of(**{**usual, **request.asked})


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _case(adapter: "Adapter", request: Request) -> "Case":
    files = request.files
    if not files.images:
        if request.case is not None:
            raise SegxaiError("--case names a case of your own: give images")
        return replace(adapter.embedded_case(), name="embedded")
    case = adapter.read(files_by_channel(files.images, adapter.files), files.reference)
    if files.regions is not None:
        from segxai.load.masks import with_regions

        case = with_regions(case, files.regions)
    return case if request.case is None else replace(case, name=request.case)


def _estimate(task: "Task", out: Path, output: Output) -> str:
    """Tell in words what a run would cost, after checking that it may write there."""
    from segxai.pipeline import choose_runs, survey

    choose_runs(task, out, append=output.append, overwrite=output.overwrite)
    return survey(task).in_words()


def _report(out: Path, names: tuple[str, ...], *, overwrite: bool) -> None:
    from segxai.cli.terminal import echo, print_instances
    from segxai.report.output_files import check_picture
    from segxai.report.pictures import save_overview
    from segxai.report.tables import instance_table
    from segxai.store.hdf5 import open_result

    pictures = pictures_of(out, names)
    with open_result(out) as tree:
        for name, picture in zip(names, pictures, strict=True):
            if len(names) > 1:
                echo(f"run {name}")
            print_instances(instance_table(tree, name))
            check_picture(picture, overwrite=overwrite)
            save_overview(tree, name, picture)
        echo(f"maps: {out}")
    for picture in pictures:
        echo(f"picture: {picture}")
