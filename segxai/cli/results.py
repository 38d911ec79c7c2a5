"""`segxai show`, `export` and `rerun`: the commands that read a result file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segxai.cli.options import output, restoring, results
from segxai.cli.signature import with_options_of
from segxai.load.limits import at_most

if TYPE_CHECKING:
    import xarray as xr

    from segxai.rerun import Comparison


def show(
    file: results.Result,
    run_name: results.Run = None,
    as_json: results.AsJson = False,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw each instance into this folder.")
    ] = None,
    overwrite: output.OverwriteFiles = False,
) -> None:
    """Print the table and the provenance of a result; with --png, draw its instances."""
    from segxai.cli.terminal import echo
    from segxai.report.pictures import save_instances
    from segxai.store.hdf5 import open_result
    from segxai.store.reader import find_run, run_names

    with open_result(file) as tree:
        names = [find_run(tree, run_name)] if run_name else run_names(tree)
        if as_json:
            _print_json(tree, names)
        else:
            _print_result(tree, names)
        for name in names if png else ():
            for path in save_instances(tree, name, png or Path(), overwrite=overwrite):
                echo(f"picture: {path}", err=as_json)


def export(
    file: results.Result,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder; made if new.")],
    run_name: results.Run = None,
    overwrite: output.OverwriteFiles = False,
) -> None:
    """Write a run's maps as NIfTI on the input's own grid, with a label map and a table."""
    from segxai.cli.terminal import echo
    from segxai.report.export import export as export_files
    from segxai.report.export import regridding_note
    from segxai.store.hdf5 import open_result
    from segxai.store.reader import find_run

    with open_result(file) as tree:
        if note := regridding_note(tree):
            echo(note, err=True)
        for path in export_files(tree, find_run(tree, run_name), folder, overwrite=overwrite):
            echo(path)


@with_options_of(restoring.places_of)
def rerun(
    file: results.Result,
    run_name: results.Run = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the input files; default: the result's own."),
    ] = None,
    max_voxels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Largest image to read, in voxels or pixels; default: 300 million.",
            show_default=False,
        ),
    ] = None,
    device: restoring.Device = "auto",
    **places: Any,
) -> None:
    """Repeat a run from its provenance, and compare the maps; exit with 1 if any differs."""
    from segxai.cli.progress import watched
    from segxai.rerun import rerun as repeat_run
    from segxai.store.hdf5 import open_result
    from segxai.store.reader import find_run

    watching = watched(afterwards="nothing was changed")
    with at_most(max_voxels), open_result(file) as tree, watching as progress:
        name = find_run(tree, run_name)
        known = replace(restoring.places_of(**places), folder=images or file.parent)
        found = list(repeat_run(tree, name, known, device=device, progress=progress))
    _print_comparisons(found)
    if not all(one.agrees for one in found):
        raise typer.Exit(1)


def _print_json(tree: "xr.DataTree", names: list[str]) -> None:
    import json

    from segxai.report.tables import instance_table
    from segxai.store.reader import missing_labels, provenance_of_run
    from segxai.store.schema import group, provenance_of

    runs = {
        name: {
            "provenance": provenance_of_run(tree, name),
            "instances": instance_table(tree, name),
            "unfinished": missing_labels(tree, name),
        }
        for name in names
    }
    result = {"provenance": provenance_of(group(tree, "/")), "runs": runs}
    typer.echo(json.dumps(result, indent=2))


def _print_result(tree: "xr.DataTree", names: list[str]) -> None:
    from segxai.cli.terminal import echo, print_instances
    from segxai.report.tables import instance_table
    from segxai.store.reader import missing_labels, provenance_of_run
    from segxai.store.schema import group, provenance_of
    from segxai.text import fact_lines

    for line in fact_lines(provenance_of(group(tree, "/"))):
        echo(line)
    for name in names:
        echo("")
        echo(f"run {name}")
        for line in fact_lines(provenance_of_run(tree, name)):
            echo(f"  {line}")
        print_instances(instance_table(tree, name))
        if missing := missing_labels(tree, name):
            listed = ", ".join(map(str, missing))
            echo(f"not finished: {listed}; repeat the run's command to continue")


def _print_comparisons(found: list["Comparison"]) -> None:
    from segxai.cli.terminal import print_table

    rows: list[dict[str, Any]] = [
        {
            "label": one.label,
            "difference": one.in_words,
            "agrees": "yes" if one.agrees else "NO",
        }
        for one in found
    ]
    headings = {"label": "label", "difference": "largest difference / peak", "agrees": "agrees"}
    print_table(rows, headings)
