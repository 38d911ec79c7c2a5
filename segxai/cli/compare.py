"""`segxai compare`: maps of the same instances by other methods, models or seeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segxai.cli.options import output
from segxai.errors import SegxaiError, option

if TYPE_CHECKING:
    import pandas as pd

    from segxai.compare.comparison import Comparison


def compare(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR...",
            help="Results of one image; or folders of results, with a file CASE.h5 for each case.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Output folder; made if new.", show_default=False)
    ],
    run_names: Annotated[
        list[str] | None,
        typer.Option(
            "--run", metavar="NAME", help="Run to compare; can be repeated; default: all."
        ),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Table with the columns case and patient; default: the BIDS subject, or else each "
            "case is a patient of its own.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the pairs of maps for the floor.")
    ] = 0,
    pictures: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many instances of a case to draw.")
    ] = 4,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Compare two versions of a model: the old one first, then others of its seeds, "
            "the new one last. Exit with 1 if the explanation of any instance changed by more than "
            "the 99th percentile between seeds.",
        ),
    ] = False,
    at_most: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="With --gate: the largest relative difference to allow, instead of the seeds'.",
            show_default=False,
        ),
    ] = None,
    overwrite: output.OverwriteFiles = False,
) -> None:
    """Compare runs instance by instance: how alike their maps are, against chance and seeds."""
    from segxai.cli.terminal import echo
    from segxai.compare.comparison import compare as compare_runs
    from segxai.compare.comparison import find_runs
    from segxai.compare.gate import judge
    from segxai.compare.output import save_tables
    from segxai.compare.pictures import save_instances, save_matrix
    from segxai.report.output_files import ExportFolder, make_folder

    if at_most is not None and not gate:
        raise SegxaiError(f"{option('at_most', at_most)} belongs to {option('gate')}: give it, too")
    found = find_runs(places, run_names or (), patients)
    comparison = compare_runs(found, seed=seed)
    verdicts = judge(found, comparison, at_most) if gate else None
    make_folder(out)
    place = ExportFolder(out, overwrite)
    _print(comparison)
    for path in save_tables(comparison, found, place, seed=seed, verdicts=verdicts):
        echo(path)
    echo(save_matrix(comparison, found, place))
    for path in save_instances(found, place, pictures):
        echo(path)
    if verdicts is not None and not _passes(verdicts):
        raise typer.Exit(1)


def _print(comparison: "Comparison") -> None:
    """Print the means of each pair of runs and channel, then the notes."""
    from segxai.cli.terminal import echo, print_table
    from segxai.compare.table import wide

    rows = wide(comparison.summary)
    names = dict.fromkeys(name for row in rows for name in row)
    print_table(rows, {name: name.replace("_", "\n") for name in names})
    for note in comparison.notes:
        echo(f"- {note}")


def _passes(verdicts: "pd.DataFrame") -> bool:
    """Print which instances changed; return whether none did."""
    from segxai.cli.terminal import echo, print_table

    changed = verdicts[verdicts["changed"]]
    if len(changed):
        shown = changed.astype(object).where(changed.notna(), None)
        names = [name for name in shown if name not in ("patient", "changed")]
        print_table(shown.to_dict("records"), {name: name.replace("_", "\n") for name in names})
    limits = ", ".join(f"{limit:.3g}" for limit in sorted(set(verdicts["limit"])))
    echo(f"gate: {len(changed)} of {len(verdicts)} instances changed by more than {limits}")
    return not len(changed)
