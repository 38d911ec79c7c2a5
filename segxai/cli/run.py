"""`segxai run`: from the command's options to a task, its table and its files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segxai.cli import model_options, options
from segxai.cli.parsing import files_by_channel
from segxai.cli.request import Files, Output, Request
from segxai.errors import SegxaiError, option
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
    plugin: options.Plugin = None,
    images: options.Images = None,
    reference: options.Reference = None,
    reference_label: options.ReferenceLabel = None,
    regions: options.Regions = None,
    case_name: options.CaseName = None,
    checkpoint: options.Checkpoint = None,
    weights_key: options.WeightsKey = None,
    max_voxels: options.MaxVoxels = None,
    tta: options.Tta = False,
    full: options.Full = False,
    model: model_options.Model = None,
    bundle: model_options.Bundle = None,
    trust: model_options.Trust = False,
    channels: model_options.Channels = None,
    classes: model_options.Classes = None,
    window: model_options.Window = None,
    overlap: model_options.Overlap = None,
    activation: model_options.Sigmoid = None,
    normalise: model_options.Normalise = None,
    spacing: model_options.Spacing = None,
    output: model_options.Output = None,
    align_corners: model_options.AlignCorners = False,
    class_name: options.ClassName = None,
    class_index: options.ClassIndex = None,
    threshold: options.Threshold = None,
    min_volume: options.MinVolume = None,
    connectivity: options.Connectivity = None,
    match: options.Match = None,
    instances: options.Instances = None,
    labels: options.Labels = None,
    controls: options.Controls = None,
    split: options.Split = False,
    method: options.Method = None,
    method_options: options.Set = None,
    aggregator: options.Aggregator = None,
    samples: options.Samples = None,
    tolerance: options.Tolerance = None,
    antithetic: options.Antithetic = None,
    noise: options.Noise = None,
    noise_unit: options.NoiseUnit = None,
    layer: options.Layer = None,
    layer_layout: options.LayerLayout = None,
    score: options.Score = None,
    contrast: options.Contrast = None,
    rows: options.Rows = None,
    seed: options.Seed = None,
    out: options.Out = None,
    crop: options.Crop = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    dry_run: options.DryRun = False,
    device: options.Device = None,
    engine: options.Engine = None,
    row_tolerance: options.RowTolerance = None,
    batch: options.Batch = None,
    precision: options.Precision = None,
    help_all: options.HelpAll = False,
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
    _check_names(words.plugin, found)
    _check(files, found, output)
    _check_images(words, files)
    from segxai.run.resolve import choose  # PyTorch: what can be told without it comes first

    choose(found)
    from segxai.cli.progress import watched
    from segxai.pipeline import choose_runs, explain_case
    from segxai.store.atomic_file import resolved, sole_writer

    with watched(afterwards=GOES_ON) as progress:
        adapter = _adapter(request)
        found = _options(adapter, request, progress)
        task = _task(adapter, found, request, progress)
        out = output.out or Path(file_name(f"{words.plugin or adapter.name}_{task.case.name}.h5"))
        out = resolved(out)
        _check_out(out, files, found, overwrite=output.overwrite)
        if output.dry_run:
            cost = _estimate(task, out, output)
            progress.close()
            typer.echo(cost)
            return
        with sole_writer(out):
            places = {"append": output.append, "overwrite": output.overwrite}
            pictures = _pictures(out, choose_runs(task, out, **places))
            _check_written((out, *pictures), files, found, overwrite=output.overwrite)
            names = explain_case(task, out, **places)
        progress.close()
        _report(out, names, overwrite=output.overwrite)


def _adapter(request: Request) -> "Adapter":
    """Load the adapter of a plugin, or make that of your own model."""
    images = request.files.images
    from segxai.load.reader import input_names

    def files_of(channels: tuple[str, ...]) -> dict[str, Path]:
        return files_by_channel(images, input_names(channels, images))

    return request.model.load(files_of)


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


def _check(files: Files, found: "Options", output: Output) -> None:
    """Check what can be checked before anything is loaded."""
    if output.overwrite and output.append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    for name in ("reference", "regions"):
        if getattr(files, name) and not files.images:
            raise SegxaiError(f"{option(name)} needs images: give them, too")
    if files.checkpoint and not files.checkpoint.exists():
        raise SegxaiError(f"no checkpoint at {files.checkpoint}")
    _check_inputs(files, found)
    if output.out:
        from segxai.store.atomic_file import resolved

        _check_out(resolved(output.out), files, found, overwrite=output.overwrite)


def _check_names(plugin: str | None, found: "Options") -> None:
    """Check that plugins of these names are installed, by their metadata alone."""
    from segxai.plugins.registry import describe

    if plugin is not None:
        describe("adapter", plugin)
    describe("method", found.method.method)
    for name in found.method.aggregator:
        describe("aggregator", name)


def _check_inputs(files: Files, found: "Options") -> None:
    """Check that the files to read are there, whatever is in them."""
    from segxai.load.existence import not_found

    paths = {"image": [_file_in(image) for image in files.images]}
    paths["reference"] = [files.reference] if files.reference else []
    paths["regions"] = [files.regions] if files.regions else []
    domains = getattr(found.target.instances, "path", None)  # of a mask, or another result
    paths["mask"] = [domains] if domains else []
    for role, several in paths.items():
        for path in several:
            if not path.exists():
                raise not_found(path, role)


def _check_images(words: model_options.Words, files: Files) -> None:
    """Check that there is a file for each channel, where these are known without the model."""
    from segxai.plugins.registry import files_of

    if words.plugin is None and not files.images:
        raise SegxaiError("a model of your own has no embedded case: give it images")
    if not files.images:
        return
    wanted: tuple[str, ...] | None = None
    if words.plugin is not None and files.checkpoint is None:
        wanted = files_of(words.plugin)
    elif words.channels is not None:
        from segxai.load.reader import input_names

        wanted = input_names(model_options.names(words.channels), files.images)
    if wanted:
        files_by_channel(files.images, wanted)


def _file_in(image: str) -> Path:
    """Return the file in an argument: behind a channel's name, unless `=` is in its own."""
    file = image.partition("=")[2]
    return Path(file if file and not Path(image).exists() else image)


def _check_out(out: Path, files: Files, found: "Options", *, overwrite: bool) -> None:
    """Check that a result can be written there without harm to another file."""
    from segxai.store.hdf5 import check_replaceable, check_writable

    check_writable(out)
    if overwrite:
        check_replaceable(out)
    _check_written((out, *_pictures(out, ("",))), files, found, overwrite=overwrite)


def _pictures(out: Path, names: tuple[str, ...]) -> list[Path]:
    """List the pictures of a result's runs: the first is named as the result is."""
    others = [out.with_name(file_name(f"{out.stem}-{name}.png")) for name in names[1:]]
    return [out.with_suffix(".png"), *others]


def _check_written(
    written: tuple[Path, ...], files: Files, found: "Options", *, overwrite: bool
) -> None:
    """Check that a result and its pictures replace no file to read, and no other picture."""
    from segxai.report.output_files import check_picture

    out, *pictures = written
    domains = getattr(found.target.instances, "path", None)  # of a mask, or another result
    others = filter(None, (files.reference, files.regions, files.checkpoint, domains))
    named = [name for image in files.images if (name := image.partition("=")[2])]
    inputs = {one.absolute() for one in (*map(Path, (*files.images, *named)), *others)}
    for path in written:
        if path.absolute() in inputs:
            what = "is" if path == out else f"would write its picture to {path}, which is"
            raise SegxaiError(f"--out {out} {what} one of the files to read; name another")
    for picture in pictures:
        check_picture(picture, overwrite=overwrite)


def _task(
    adapter: "Adapter", found: "Options", request: Request, progress: "TerminalProgress"
) -> "Task":
    from segxai.run.prepare import prepare

    case = _case(adapter, request)
    return prepare(adapter, case, found, progress=progress)


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

    pictures = _pictures(out, names)
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
