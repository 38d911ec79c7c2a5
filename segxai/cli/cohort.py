"""`segxai cohort` and `segxai join`: many cases alike, with tables of all of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segxai.cli.checks import check_weights
from segxai.cli.parsing import names_of
from segxai.cli.request import Request
from segxai.cli.run import GOES_ON
from segxai.cli.run import run as run_one
from segxai.cli.signature import with_options_of
from segxai.errors import SegxaiError, option

if TYPE_CHECKING:
    import pandas as pd

    from segxai.cli.terminal import TerminalProgress
    from segxai.cohort.cases import CohortCase
    from segxai.cohort.schedule import Workers
    from segxai.cohort.work import Work

OF_ONE_CASE = ("images", "reference", "regions", "case_name", "full", "out", "dry_run")
# Of the embedded cohort, unless something else is asked for: minutes instead of hours.
REDUCED: dict[str, Any] = {
    "method": "gradient",
    "aggregator": ("mean", "signed_max"),
    "score": ("logit", "probability"),
    "controls": ("spheres", "matched"),
    "rows": 6,
}
COHORT = "Cohort"


@with_options_of(run_one, without=OF_ONE_CASE)
def cohort(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="COHORT.csv",
            help="A line for each case, a column for each channel; default: embedded phantoms.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of results; made if new.",
            show_default="./PLUGIN_cohort",
            rich_help_panel=COHORT,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of local processes, run by Dask.", rich_help_panel=COHORT
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler to use.",
            show_default=False,
            rich_help_panel=COHORT,
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="Memory that all of --jobs may use together.",
            show_default="80 % of the machine",
            rich_help_panel=COHORT,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Run every N-th case, starting at the I-th; afterwards, `segxai join DIR`.",
            show_default=False,
            rich_help_panel=COHORT,
        ),
    ] = None,
    **given: Any,
) -> None:
    """Explain every case of a cohort; write a result for each and tables of all.

    Columns of the CSV: case, patient, session, a file for each channel, reference, checkpoint,
    regions; others are kept. A case that fails is set aside, and the command exits with 1.
    """
    from segxai.cohort.schedule import Workers

    request = Request.of({**given, "out": out})
    workers = Workers(jobs, scheduler, memory)
    _run(request, file, workers, _shard(shard))


def join(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with the results of all shards.")
    ],
) -> None:
    """Write the tables of a cohort whose cases were run as shards."""
    from segxai.cohort.output import join_parts

    _finish(folder, join_parts(folder))


def _shard(text: str | None) -> tuple[int, int]:
    """Parse `2/5`; the whole cohort is `1/1`."""
    number, _, count = (text or "1/1").partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise SegxaiError(f"{option('shard', text)}: give one part of several, such as 1/4")
    return int(number), int(count)


def _run(request: Request, file: Path | None, workers: "Workers", shard: tuple[int, int]) -> None:
    from segxai.cohort.cases import share
    from segxai.cohort.output import reports_table, save_part
    from segxai.cohort.schedule import run_cases
    from segxai.run.options import Options

    asked = request.asked if file is not None else {**REDUCED, **request.asked}
    found = Options.of(**asked)
    request.words.check()
    check_weights(request.files)
    if request.output.overwrite and request.output.append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    from segxai.cli.progress import watched
    from segxai.run.resolve import choose

    choose(found)
    with watched(afterwards=GOES_ON) as progress:
        work = _work(request, found, file)
        cases = share(_cases(work, request, file, progress), *shard)
        reports = {}
        for report in run_cases(work, cases, workers, progress):
            reports[report.case] = report
            what = report.message or f"{report.seconds:.0f} s"
            progress.say(f"{report.case}: {report.status}, {what}")
        progress.close()
    table = reports_table(cases, reports)
    if shard[1] > 1:
        typer.echo(f"shard: {save_part(work.folder, table, *shard)}; then: segxai join DIR")
        _exit(table)
    else:
        _finish(work.folder, table)


def _work(request: Request, found: Any, file: Path | None) -> "Work":
    from segxai.cohort.work import Work
    from segxai.report.output_files import make_folder

    name = request.words.plugin or "own_model"
    folder = (request.output.out or Path(f"{name}_cohort")).absolute()
    make_folder(folder)
    places = (request.output.append, request.output.overwrite)
    return Work(request.model, found, folder, request.max_voxels, *places)


def _cases(
    work: "Work", request: Request, file: Path | None, progress: "TerminalProgress"
) -> tuple["CohortCase", ...]:
    """Read the cases, or list the phantoms; nothing is run before all lines make sense."""
    from segxai.cohort.cases import CohortCase, cases_of, read_lines
    from segxai.cohort.phantoms import COUNT

    if file is None:
        if request.words.plugin is None:
            raise SegxaiError("a model of your own has no embedded cohort: give it a CSV of cases")
        reduced = {name: one for name, one in REDUCED.items() if name not in request.asked}
        words = ", ".join(f"{option(name, _in_words(value))}" for name, value in reduced.items())
        progress.say(f"an embedded cohort of {COUNT} phantoms of one head, none a patient; {words}")
        numbers = range(1, COUNT + 1)
        return tuple(CohortCase(f"phantom-{n:02}", f"phantom-{n:02}", phantom=n) for n in numbers)
    table = read_lines(file)
    if "patient" not in table:
        progress.say("the cohort has no column patient: each case is a patient of its own")
    return cases_of(table, _channels(work, request, table, file.parent), file.parent)


def _channels(
    work: "Work", request: Request, table: "pd.DataFrame", folder: Path
) -> tuple[str, ...]:
    """Name the files of a case: as the plugin's package or the user says, or the loaded model."""
    from segxai.plugins.registry import files_of

    plugin = request.words.plugin
    known = files_of(plugin) if plugin and not request.files.checkpoint else None
    known = known or names_of(request.words.channels) or None
    if known:
        return known
    checkpoint = work.model.checkpoint
    if first := next(filter(None, table.get("checkpoint", ())), None):
        checkpoint = folder.absolute() / first
    return replace(work.model, checkpoint=checkpoint).load().files


def _in_words(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _finish(folder: Path, table: "pd.DataFrame") -> None:
    from segxai.cohort.output import save_tables

    for path in save_tables(folder, table):
        typer.echo(f"table: {path}")
    _exit(table)


def _exit(table: "pd.DataFrame") -> None:
    """Say how many cases failed, and exit with 1 if any did."""
    from segxai.cohort.output import failed

    if count := failed(table):
        typer.echo(f"{count} of {len(table)} cases failed: see cases.csv", err=True)
        raise typer.Exit(1)
