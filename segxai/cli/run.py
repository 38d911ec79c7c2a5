"""`segxai run`: from the command's options to a task, its table and its files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segxai.cli import model_options, options
from segxai.cli.parsing import (
    are_labels,
    copies,
    files_by_channel,
    label_or_all,
    labels_of,
    names_of,
    settings_of,
    source_of,
)
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


@dataclass(frozen=True)
class Files:
    """The files to read: images, the expert's mask and weights; which of these to take."""

    images: tuple[str, ...]
    reference: Path | None
    checkpoint: Path | None
    weights_key: str | None


@dataclass(frozen=True)
class Part:
    """Whether instances were chosen, and whether all of the embedded case is wanted."""

    is_chosen: bool
    is_whole: bool


@dataclass(frozen=True)
class Output:
    """Where results go, and what may happen to a file that is already there."""

    out: Path | None
    overwrite: bool
    append: bool
    dry_run: bool


def run(
    plugin: options.Plugin = None,
    images: options.Images = None,
    reference: options.Reference = None,
    reference_label: options.ReferenceLabel = None,
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
    if are_labels(instances) and labels is None:
        instances, labels = None, instances
    asked = _given(
        method=method,
        method_options=settings_of(method_options or ()),
        aggregator=names_of(aggregator),
        samples=None if samples is None else copies(samples),
        tolerance=tolerance,
        antithetic=antithetic,
        noise=noise,
        noise_unit=noise_unit,
        seed=seed,
        layer=layer,
        layer_layout=layer_layout,
        score=names_of(score),
        contrast=contrast,
        class_name=class_name,
        class_index=class_index,
        threshold=threshold,
        min_volume_mm3=min_volume,
        connectivity=connectivity,
        match=match,
        instances=source_of(instances, split=split),
        labels=labels_of(labels),
        reference_label=label_or_all(reference_label),
        rows=rows,
        crop_mm=crop,
        tta=tta,
        device=device,
        engine=engine,
        row_tolerance=row_tolerance,
        batch=batch,
        precision=precision,
    )
    files = Files(tuple(images or ()), reference, checkpoint, weights_key)
    how = (trust, channels, classes, window, overlap, activation, normalise, spacing)
    words = model_options.Words(plugin, model, bundle, *how, output, align_corners)
    part = Part(is_chosen=instances is not None or labels is not None, is_whole=full)
    with at_most(max_voxels):
        _run(words, asked, part, files, Output(out, overwrite, append, dry_run))


def _given(**options: Any) -> dict[str, Any]:
    """Select the options that were given."""
    return {
        name: value
        for name, value in options.items()
        if not (value is None or value is False or value in ((), {}))
    }


def _run(
    words: model_options.Words, asked: dict[str, Any], part: Part, files: Files, output: Output
) -> None:
    from segxai.run.options import Options

    found = Options.of(**asked)  # what makes no sense should not wait for the model
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
        adapter = _adapter(words, files)
        found = _options(adapter, asked, part, files, progress)
        task = _task(adapter, found, files, progress)
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


def _adapter(words: model_options.Words, files: Files) -> "Adapter":
    """Load the adapter of a plugin, or make that of your own model."""
    if words.plugin is not None:
        from segxai.plugins.registry import load_adapter

        return load_adapter(words.plugin, files.checkpoint, files.weights_key)
    from segxai.load.reader import input_names
    from segxai.models.own_model import adapter_for

    def files_of(channels: tuple[str, ...]) -> dict[str, Path]:
        return files_by_channel(files.images, input_names(channels, files.images))

    own = replace(model_options.own_model(words), weights_key=files.weights_key)
    return adapter_for(own, files.checkpoint, files_of)


def _options(
    adapter: "Adapter",
    asked: dict[str, Any],
    part: Part,
    files: Files,
    progress: "TerminalProgress",
) -> "Options":
    """Build the options; of a slow model's embedded case, explain part unless --full is given."""
    from segxai.run.options import Options

    if files.images or part.is_whole:
        return Options.of(**asked)
    usual = dict(adapter.embedded_options)
    if part.is_chosen:
        usual.pop("labels", None)
    usual = {name: value for name, value in usual.items() if name not in asked}
    if usual:
        words = ", ".join(f"{name} {_in_words(value)}" for name, value in usual.items())
        progress.say(f"Explaining part of the embedded case ({words}); use --full for all of it.")
    return Options.of(**{**usual, **asked})


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check(files: Files, found: "Options", output: Output) -> None:
    """Check what can be checked before anything is loaded."""
    if output.overwrite and output.append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    if files.reference and not files.images:
        raise SegxaiError(f"{option('reference')} needs images: give them, too")
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
    masks_and_weights = filter(None, (files.reference, files.checkpoint, domains))
    named = [name for image in files.images if (name := image.partition("=")[2])]
    inputs = {one.absolute() for one in (*map(Path, (*files.images, *named)), *masks_and_weights)}
    for path in written:
        if path.absolute() in inputs:
            what = "is" if path == out else f"would write its picture to {path}, which is"
            raise SegxaiError(f"--out {out} {what} one of the files to read; name another")
    for picture in pictures:
        check_picture(picture, overwrite=overwrite)


def _task(
    adapter: "Adapter", found: "Options", files: Files, progress: "TerminalProgress"
) -> "Task":
    from segxai.run.prepare import prepare

    case = _case(adapter, files)
    return prepare(adapter, case, found, progress=progress)


def _case(adapter: "Adapter", files: Files) -> "Case":
    if files.images:
        return adapter.read(files_by_channel(files.images, adapter.files), files.reference)
    return replace(adapter.embedded_case(), name="embedded")


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
