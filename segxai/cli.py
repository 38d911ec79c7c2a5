"""The command line: options in, results on stdout, progress on stderr. Nothing is decided here.

Heavy imports stay inside the commands, so that help comes at once.
"""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segxai.errors import SegxaiError, one_line

if TYPE_CHECKING:
    from segxai.adapter import Adapter
    from segxai.task import Task

app = typer.Typer(
    name="segxai",
    help="Explain segmentation models, one instance at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130

Result = Annotated[Path, typer.Argument(metavar="FILE", help="A result file of `segxai run`.")]
Run = Annotated[str | None, typer.Option("--run", help="Which run of the file; default: the last.")]


def main() -> None:
    """Run the command line: exit status 0 fine, 2 the user's to mend, 1 a bug."""
    try:
        app()
    except SegxaiError as error:
        print(f"segxai: error: {one_line(error, limit=2000)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("segxai: interrupted; the same command goes on with the rest", file=sys.stderr)
        sys.exit(INTERRUPTED)


@app.command()
def run(
    plugin: Annotated[str, typer.Option(help="Which model: see `segxai plugins`.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE ...]",
            help="Files in the plugin's channel order, or CHANNEL=FILE; none: the embedded case.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Mask of the true objects, for TP, FP and FN.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights instead of the plugin's own.")
    ] = None,
    method: Annotated[str, typer.Option(help="See `segxai methods`.")] = "smoothgrad",
    aggregator: Annotated[
        str | None, typer.Option(help="signed_max or mean; default: the method's own.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Noisy copies.")] = 50,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise, in its unit.")
    ] = 0.05,
    noise_unit: Annotated[
        str, typer.Option(help="range or p99 of each channel's foreground, or absolute.")
    ] = "range",
    layer: Annotated[
        str | None, typer.Option(help="Layer of a CAM method; default: the plugin's.")
    ] = None,
    score: Annotated[str, typer.Option(help="logit, margin or probability.")] = "logit",
    threshold: Annotated[
        float | None, typer.Option(help="Probability above which a voxel counts.")
    ] = None,
    min_volume: Annotated[
        float | None, typer.Option(metavar="MM3", help="Smallest instance.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Which class.")] = None,
    instances: Annotated[
        str, typer.Option(metavar="all|1,2,5|MASK", help="Labels, or a mask of your own.")
    ] = "all",
    split: Annotated[
        bool, typer.Option("--split", help="Cut the MASK into its connected components.")
    ] = False,
    rows: Annotated[
        int | None, typer.Option(help="Estimate each map from so many of its rows.")
    ] = None,
    crop: Annotated[
        float | None, typer.Option(metavar="MM", help="Cut maps at this distance.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[int, typer.Option(help="Rows computed at once; changes no value.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the noise and of sampled rows.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="Default: PLUGIN_CASE.h5 here.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.h5.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Add a run to FILE.h5.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would cost, and stop.")
    ] = False,
) -> None:
    """Explain the instances that a model finds in an image.

    Prints a table, writes FILE.h5 with all maps and FILE.png with a picture. The same command goes
    on where it was interrupted.
    """
    from segxai.plugins import load_adapter
    from segxai.request import Request
    from segxai.terminal import TerminalProgress

    labels, mask = _selection(instances)
    request = Request(
        method=method,
        aggregator=aggregator,
        samples=samples,
        noise=noise,
        noise_unit=noise_unit,
        seed=seed,
        layer=layer,
        score=score,
        class_name=class_name,
        threshold=threshold,
        min_volume_mm3=min_volume,
        instances=labels,
        split=split,
        rows=rows,
        crop_mm=crop,
        device=device,
        batch=batch,
    )
    if overwrite and append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    progress = TerminalProgress()
    warnings.showwarning = lambda message, *rest, **more: progress.say(f"warning: {message}")
    adapter = load_adapter(plugin)
    task = _task(adapter, request, images or [], reference, checkpoint, mask, progress)
    target = out or Path(f"{plugin}_{task.case.name}.h5")
    try:
        _explain(task, target, overwrite=overwrite, append=append, dry_run=dry_run)
    finally:
        progress.close()


def _explain(task: "Task", out: Path, *, overwrite: bool, append: bool, dry_run: bool) -> None:
    from segxai import pipeline
    from segxai.report import save_overview
    from segxai.storage import open_result

    if dry_run:
        pipeline.choose_run(task, out, append=append, overwrite=overwrite)
        pipeline.find(task)
        return
    name = pipeline.explain_case(task, out, append=append, overwrite=overwrite)
    with open_result(out) as tree:
        picture = out.with_suffix(".png")
        save_overview(tree, name, picture)
        _print_run(tree, name)
    print(f"maps: {out}\npicture: {picture}")


def _task(
    adapter: "Adapter",
    request: Any,
    images: list[str],
    reference: Path | None,
    checkpoint: Path | None,
    mask: Path | None,
    progress: Any,
) -> "Task":
    from segxai.task import choose, prepare

    choose(request)  # a misspelt name should not wait for the images
    if images:
        case = adapter.load_case(_files(images, adapter.channels), reference)
    elif reference is not None:
        raise SegxaiError("--reference belongs to images: give them, too")
    else:
        case = adapter.embedded_case()
    return prepare(adapter, case, request, checkpoint=checkpoint, mask=mask, progress=progress)


def _files(images: list[str], channels: tuple[str, ...]) -> dict[str, Path]:
    """One file for each channel, from the order or the names."""
    wanted = f"give {len(channels)} images in the order {', '.join(channels)}, or CHANNEL=FILE each"
    named = dict(image.split("=", 1) for image in images if image.split("=", 1)[0] in channels)
    if not named and len(images) == len(channels):
        return {channel: Path(image) for channel, image in zip(channels, images, strict=True)}
    if len(named) == len(images) == len(channels):
        return {channel: Path(named[channel]) for channel in channels}
    raise SegxaiError(f"{len(images)} images {' '.join(images)}: {wanted}")


def _selection(instances: str) -> tuple[tuple[int, ...] | None, Path | None]:
    """Labels and mask from `all`, `1,2,5` or a path."""
    if instances == "all":
        return None, None
    parts = instances.split(",")
    if all(part.strip().isdecimal() for part in parts):
        return tuple(sorted({int(part) for part in parts})), None
    if not Path(instances).is_file():
        raise SegxaiError(
            f"--instances {instances}: neither 'all', nor labels such as 1,2,5, nor a file"
        )
    return None, Path(instances)


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Import each, in a process of its own.")
    ] = False,
) -> None:
    """List the installed plugins, from their metadata."""
    import json
    from dataclasses import asdict

    from segxai.plugins import import_failure, installed

    rows: list[dict[str, Any]] = [asdict(info) for info in installed()]
    if check:
        for row in rows:
            row["failure"] = import_failure(row["kind"], row["name"])
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        from segxai.terminal import print_table

        print_table(rows, {name: name for name in rows[0]} if rows else {})
    broken = [row["name"] for row in rows if row.get("failure")]
    if broken:
        raise SegxaiError(f"plugins that fail to load: {', '.join(broken)}")


@app.command()
def methods() -> None:
    """List the attribution methods and aggregators."""
    from segxai.plugins import installed, load_method
    from segxai.terminal import print_table

    listed = installed()
    found = [load_method(info.name) for info in listed if info.kind == "method"]
    rows = [{**vars(one), "aggregator": one.aggregator or "none"} for one in found]
    headings = {"name": "method", "aggregator": "aggregator", "summary": "what comes out"}
    print_table(rows, headings | {"reference": "reference"})
    print("aggregators:", ", ".join(one.name for one in listed if one.kind == "aggregator"))


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An adapter: see `segxai plugins`.")],
) -> None:
    """Look whether an adapter keeps its promises: the conformance kit."""
    from segxai.plugins import load_adapter
    from segxai.testing import check_adapter

    broken = 0
    for finding in check_adapter(load_adapter(name)):
        broken += not finding.holds
        detail = f": {finding.detail}" if finding.detail else ""
        print(f"{'ok  ' if finding.holds else 'FAIL'} {finding.what}{detail}")
    if broken:
        raise SegxaiError(f"adapter {name!r} breaks {broken} of its promises")


@app.command()
def show(
    file: Result,
    run_name: Run = None,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw each instance into a folder.")
    ] = None,
) -> None:
    """Print the table and the provenance of a result; draw its instances."""
    import json

    from segxai.report import find_run, run_names, run_provenance, save_instances
    from segxai.results import group, provenance_of
    from segxai.storage import open_result

    with open_result(file) as tree:
        print(json.dumps(provenance_of(group(tree, "/")), indent=2))
        for name in [find_run(tree, run_name)] if run_name else run_names(tree):
            print(f"\nrun {name}: {json.dumps(run_provenance(tree, name))}")
            _print_run(tree, name)
            if png is not None:
                _make_folder(png)
                for path in save_instances(tree, name, png):
                    print(f"picture: {path}")


@app.command()
def export(
    file: Result,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it does not exist.")],
    run_name: Run = None,
) -> None:
    """Write maps as NIfTI on the input's own grid, a label map and a table."""
    from segxai.exporting import export as export_files
    from segxai.report import find_run
    from segxai.storage import open_result

    with open_result(file) as tree:
        for path in export_files(tree, find_run(tree, run_name), folder):
            print(path)


@app.command()
def rerun(
    file: Result,
    run_name: Run = None,
    images: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the input files.")
    ] = Path(),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights, where they were not the plugin's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Repeat a run from its provenance, and compare the maps."""
    from segxai import reproduction
    from segxai.report import find_run
    from segxai.storage import open_result
    from segxai.terminal import TerminalProgress, print_table

    progress = TerminalProgress()
    with open_result(file) as tree:
        name = find_run(tree, run_name)
        compared = list(
            reproduction.rerun(
                tree,
                name,
                folder=images,
                checkpoint=checkpoint,
                device=device,
                progress=progress,
            )
        )
    progress.close()
    rows = [
        {
            "label": one.label,
            "difference": f"{one.largest_difference:.1e}",
            "agrees": "yes" if one.agrees else "NO",
        }
        for one in compared
    ]
    headings = {"label": "label", "difference": "largest difference / peak", "agrees": "agrees"}
    print_table(rows, headings)
    if not all(one.agrees for one in compared):
        raise typer.Exit(1)


def _print_run(tree: Any, name: str) -> None:
    from segxai.report import instance_table
    from segxai.terminal import print_table

    rows = instance_table(tree, name)
    columns = dict.fromkeys(column for row in rows for column in row if column != "estimate")
    headings = {column: column.replace("_mm3", " mm3").replace("_", " ") for column in columns}
    print_table(rows, headings)
    estimates = [str(row["label"]) for row in rows if row["estimate"]]
    if estimates:
        print(f"estimated from a sample of rows: {', '.join(estimates)}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegxaiError(f"cannot make the folder {folder}: {error.strerror}") from error
