"""`segxai run`: from the command's options to a task, its table and its files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segxai.cli import model_options, options
from segxai.cli.parsing import balls_of, copies, files_by_channel, selection
from segxai.errors import SegxaiError
from segxai.run.options import Request

if TYPE_CHECKING:
    from segxai.cli.terminal import TerminalProgress
    from segxai.plugins.adapter import Adapter
    from segxai.run.prepare import Task
    from segxai.types import Case

GOES_ON = "what was finished is kept, and the same command continues from there"


@dataclass(frozen=True)
class Files:
    """The files to read: images, the expert's mask, weights, and a mask of instances."""

    images: tuple[str, ...]
    reference: Path | None
    checkpoint: Path | None
    mask: Path | None


@dataclass(frozen=True)
class Part:
    """The part of the embedded case to explain: chosen instances, all of it, or the default."""

    is_chosen: bool
    is_whole: bool


@dataclass(frozen=True)
class Target:
    """Where results go, and what may happen to a file that is already there."""

    out: Path | None
    overwrite: bool
    append: bool
    dry_run: bool


def run(
    plugin: options.Plugin = None,
    images: options.Images = None,
    reference: options.Reference = None,
    checkpoint: options.Checkpoint = None,
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
    class_name: options.ClassName = None,
    class_index: options.ClassIndex = None,
    threshold: options.Threshold = None,
    min_volume: options.MinVolume = None,
    instances: options.Instances = None,
    split: options.Split = False,
    method: options.Method = Request.method,
    aggregator: options.Aggregator = None,
    samples: options.Samples = None,
    tolerance: options.Tolerance = None,
    antithetic: options.Antithetic = False,
    noise: options.Noise = Request.noise,
    noise_unit: options.NoiseUnit = Request.noise_unit,
    layer: options.Layer = None,
    score: options.Score = Request.score,
    rows: options.Rows = None,
    seed: options.Seed = Request.seed,
    out: options.Out = None,
    crop: options.Crop = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    dry_run: options.DryRun = False,
    device: options.Device = Request.device,
    engine: options.Engine = Request.engine,
    batch: options.Batch = Request.batch,
    precision: options.Precision = Request.precision,
) -> None:
    """Explain the instances that a model finds in an image.

    Prints a table, writes all maps to FILE.h5 and a picture to FILE.png.
    After an interruption, the same command continues where it stopped.
    """
    spheres = balls_of(instances)
    labels, mask = selection(None if spheres else instances, split=split)
    asked = _given(
        method=method,
        aggregator=aggregator,
        samples=None if samples is None else copies(samples),
        tolerance=tolerance,
        antithetic=antithetic,
        noise=noise,
        noise_unit=noise_unit,
        seed=seed,
        layer=layer,
        score=score,
        class_name=class_name,
        class_index=class_index,
        threshold=threshold,
        min_volume_mm3=min_volume,
        instances=labels,
        spheres=spheres,
        split=split,
        rows=rows,
        crop_mm=crop,
        tta=tta,
        device=device,
        engine=engine,
        batch=batch,
        precision=precision,
    )
    Request(**asked)  # what makes no sense should not wait for the model
    files = Files(tuple(images or ()), reference, checkpoint, mask)
    part = Part(is_chosen=instances is not None, is_whole=full)
    how = (trust, channels, classes, window, overlap, activation, normalise, spacing)
    words = model_options.Words(plugin, model, bundle, *how)
    _run(words, asked, part, files, Target(out, overwrite, append, dry_run))


def _given(**options: Any) -> dict[str, Any]:
    """Select the options that were given or have a default of their own."""
    return {name: value for name, value in options.items() if value is not None}


def _run(
    words: model_options.Words, asked: dict[str, Any], part: Part, files: Files, target: Target
) -> None:
    from segxai.cli.progress import watched
    from segxai.store.atomic_file import sole_writer

    words.check()
    _check(files, target)
    from segxai.pipeline import explain_case  # seconds: what can be told at once comes first

    with watched(afterwards=GOES_ON) as progress:
        adapter = _adapter(words, files)
        request = _request(adapter, asked, part, files, progress)
        task = _task(adapter, request, files, progress)
        out = target.out or Path(f"{words.plugin or adapter.name}_{task.case.name}.h5")
        _check_out(out, files, overwrite=target.overwrite)
        if target.dry_run:
            cost = _estimate(task, out, target)
            progress.close()
            typer.echo(cost)
            return
        with sole_writer(out):
            name = explain_case(task, out, append=target.append, overwrite=target.overwrite)
        progress.close()
        _report(out, name)


def _adapter(words: model_options.Words, files: Files) -> "Adapter":
    """Load the adapter of a plugin, or make that of your own model."""
    if words.plugin is not None:
        from segxai.plugins.registry import load_adapter

        return load_adapter(words.plugin).of(files.checkpoint)
    if not files.images:
        raise SegxaiError("a model of your own has no embedded case: give it images")
    from segxai.load.reader import input_names

    def files_of(channels: tuple[str, ...]) -> dict[str, Path]:
        return files_by_channel(files.images, input_names(channels, files.images))

    return model_options.own_adapter(words, files.checkpoint, files_of)


def _request(
    adapter: "Adapter",
    asked: dict[str, Any],
    part: Part,
    files: Files,
    progress: "TerminalProgress",
) -> Request:
    """Build the request; of a slow model's embedded case, explain part unless --full is given."""
    if files.images or part.is_whole:
        return Request(**asked)
    usual = dict(adapter.embedded_request)
    if part.is_chosen:
        usual.pop("instances", None)
    usual = {name: value for name, value in usual.items() if name not in asked}
    if usual:
        words = ", ".join(f"{name} {_in_words(value)}" for name, value in usual.items())
        progress.say(f"Explaining part of the embedded case ({words}); use --full for all of it.")
    return Request(**{**usual, **asked})


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check(files: Files, target: Target) -> None:
    """Check what can be checked before anything is loaded."""
    if target.overwrite and target.append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    if files.reference and not files.images:
        raise SegxaiError("--reference needs images: give them, too")
    if files.checkpoint and not files.checkpoint.exists():
        raise SegxaiError(f"no checkpoint at {files.checkpoint}")
    if target.out:
        _check_out(target.out, files, overwrite=target.overwrite)


def _check_out(out: Path, files: Files, *, overwrite: bool) -> None:
    """Check that a result can be written there without harm to another file."""
    from segxai.store.hdf5 import check_replaceable, check_writable

    check_writable(out)
    masks_and_weights = filter(None, (files.reference, files.checkpoint, files.mask))
    named = [name for image in files.images if (name := image.partition("=")[2])]
    inputs = {one.absolute() for one in (*map(Path, (*files.images, *named)), *masks_and_weights)}
    for written in (out, out.with_suffix(".png")):
        if written.absolute() in inputs:
            what = "is" if written == out else f"would write its picture to {written}, which is"
            raise SegxaiError(f"--out {out} {what} one of the files to read; name another")
    if overwrite:
        check_replaceable(out)


def _task(
    adapter: "Adapter", request: Request, files: Files, progress: "TerminalProgress"
) -> "Task":
    from segxai.run.prepare import choose, prepare

    method = choose(request).method  # a misspelt name should not wait for the images
    if method.scope == "class" and (request.instances or request.spheres or files.mask):
        raise SegxaiError(
            f"method {method.name!r} explains the whole class at once: give no --instances"
        )
    case = _case(adapter, files)
    return prepare(
        adapter, case, request, checkpoint=files.checkpoint, mask=files.mask, progress=progress
    )


def _case(adapter: "Adapter", files: Files) -> "Case":
    if files.images:
        return adapter.load_case(files_by_channel(files.images, adapter.files), files.reference)
    return replace(adapter.embedded_case(), name="embedded")


def _estimate(task: "Task", out: Path, target: Target) -> str:
    """Tell in words what a run would cost, after checking that it may write there."""
    from segxai.pipeline import choose_run
    from segxai.run.find import find

    choose_run(task, out, append=target.append, overwrite=target.overwrite)
    return find(task).in_words()


def _report(out: Path, name: str) -> None:
    from segxai.cli.terminal import print_instances
    from segxai.report.pictures import save_overview
    from segxai.report.tables import instance_table
    from segxai.store.hdf5 import open_result

    picture = out.with_suffix(".png")
    with open_result(out) as tree:
        print_instances(instance_table(tree, name))
        typer.echo(f"maps: {out}")
        save_overview(tree, name, picture)
    typer.echo(f"picture: {picture}")
