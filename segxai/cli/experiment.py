"""`segxai experiment`: the paper's experiments, each a command on results and cohorts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segxai.cli.options import restoring
from segxai.cli.options.results import Results
from segxai.cli.parsing import names_of, numbers_of, range_of
from segxai.cli.signature import with_options_of

if TYPE_CHECKING:
    from segxai.experiments.frame import CaseFile, Experiment
    from segxai.experiments.probe import Access

GOES_ON = "finished cases are kept, and the same command goes on from there"

app = typer.Typer(
    name="experiment",
    help="Repeat an experiment of the paper on results, or on a cohort's folder.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder for tables, figures and texts; made if new.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Measure again what was measured with other settings, and replace files that segxai "
        "did not write.",
    ),
]
Volume = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|all",
        help="Smallest and largest volume of the instances, in mm3 (pixels in pictures); default: "
        "the paper's 90,120 if any instance has it, otherwise all.",
        show_default=False,
    ),
]
Outcomes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Outcomes of the instances, such as TP,FN; default: TP, and those without an outcome.",
        show_default=False,
    ),
]
Build = Callable[[Sequence["CaseFile"], "Access"], "Experiment"]


@app.command()
@with_options_of(restoring.places_of)
def context(
    results: Results,
    out: Out,
    fills: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="What replaces the surroundings: zero, black, dark, healthy or blurred; default: "
            "all of them.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Distances in mm (pixels) up to which the image is given back; default: 0 to 25.",
            show_default=False,
        ),
    ] = None,
    volume: Volume = None,
    outcomes: Outcomes = None,
    dilation: Annotated[
        bool, typer.Option(help="Also give back by dilation, as the paper's scripts do.")
    ] = True,
    device: restoring.Device = "auto",
    overwrite: Overwrite = False,
    **model: Any,
) -> None:
    """Measure how much of its surroundings the model needs to see an instance."""
    from segxai.experiments.context.experiment import Context
    from segxai.experiments.context.experiment import context as build

    asked = {
        "fills": names_of(fills),
        "steps": numbers_of("steps", steps),
        "volume": range_of("volume", volume),
        "outcomes": names_of(outcomes),
    }
    settings = Context(dilation=dilation, **_given(asked))
    build_it = partial(build, settings)
    _run_on_model(build_it, results, out, model, device, overwrite=overwrite)


@app.command()
@with_options_of(restoring.places_of)
def synthetic(
    results: Results,
    out: Out,
    fills: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="What fills the background outside of the head: zero, black, dark or healthy; "
            "default: zero,black,dark.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Tissue that lesions are moved to, on the grid of the images; default: healthy "
            "tissue as bright as the surroundings of the lesions.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Lesion to move; default: of the larger half, that of the highest probability.",
        ),
    ] = None,
    places: Annotated[
        int,
        typer.Option(
            metavar="N", help="Places to try for each way of moving it, and for each size."
        ),
    ] = 10,
    contrasts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Contrasts of made-up lesions, as multiples of the lesion's own; default: 0 to 2.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Volumes of made-up lesions, in mm3 (pixels in pictures); default: 10,30,93,300, "
            "in pictures a quarter to twice the median area.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the places.")] = 0,
    device: restoring.Device = "auto",
    overwrite: Overwrite = False,
    **model: Any,
) -> None:
    """Move a clear lesion elsewhere, and add made-up ones of graded contrast and size."""
    from segxai.experiments.synthetic.experiment import synthetic as build
    from segxai.experiments.synthetic.settings import Synthetic

    asked = {
        "fills": names_of(fills),
        "where": where,
        "label": label,
        "contrasts": numbers_of("contrasts", contrasts),
        "sizes": numbers_of("sizes", sizes),
    }
    settings = Synthetic(places=places, seed=seed, **_given(asked))

    def build_it(cases: Sequence["CaseFile"], access: "Access") -> "Experiment":
        return build(settings, access)

    _run_on_model(build_it, results, out, model, device, overwrite=overwrite)


@app.command()
@with_options_of(restoring.places_of)
def modalities(
    results: Results,
    out: Out,
    cut: Annotated[
        float,
        typer.Option(
            metavar="X", help="Leave smaller magnitudes out of medians; the paper's is 0.1."
        ),
    ] = 0.0,
    shapley: Annotated[
        bool, typer.Option(help="Also compute the channels' Shapley values with the model.")
    ] = True,
    fill: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What replaces a channel for its Shapley value: healthy, zero, dark, black, "
            "blurred.",
        ),
    ] = "healthy",
    within: Annotated[
        str,
        typer.Option(
            metavar="domain|image", help="Replace it in the domain, or in the whole image."
        ),
    ] = "domain",
    device: restoring.Device = "auto",
    overwrite: Overwrite = False,
    **model: Any,
) -> None:
    """Compare what maps say in each channel, inside a domain, at its border and around."""
    from segxai.experiments.modalities.experiment import Modalities
    from segxai.experiments.modalities.experiment import modalities as build
    from segxai.experiments.modalities.shapley import Replacement

    settings = Modalities(cut=cut, shapley=shapley, replacement=Replacement(fill, within))
    build_it = partial(build, settings)
    _run_on_model(build_it, results, out, model, device, overwrite=overwrite, one_each=False)


@app.command()
def outcomes(results: Results, out: Out, overwrite: Overwrite = False) -> None:
    """Compare the largest and smallest values of maps of TP, FP, FN and healthy tissue."""
    from segxai.experiments.outcomes.experiment import outcomes as build

    _run_on_tables(build, results, out, overwrite=overwrite)


@app.command()
def sizes(results: Results, out: Out, overwrite: Overwrite = False) -> None:
    """Compare how the peaks of maps depend on the size of a lesion, by mean and signed max."""
    from segxai.experiments.sizes.experiment import sizes as build

    _run_on_tables(build, results, out, overwrite=overwrite)


@app.command()
def flags(results: Results, out: Out, overwrite: Overwrite = False) -> None:
    """Test whether maps tell false alarms from lesions, beyond volume and probability."""
    from segxai.experiments.flags.experiment import flags as build

    _run_on_tables(build, results, out, overwrite=overwrite)


def _run_on_tables(
    build: Callable[[], "Experiment"], results: list[Path], out: Path, *, overwrite: bool
) -> None:
    """Run an experiment that reads results alone."""
    from segxai.cli.terminal import TerminalProgress
    from segxai.experiments.frame import cases_in, run_experiment

    progress = TerminalProgress()
    try:
        cases = cases_in(results)
        found = run_experiment(build(), cases, out, overwrite=overwrite, progress=progress)
    finally:
        progress.close()
    _print(*found)


def _run_on_model(
    build: Build,
    results: list[Path],
    out: Path,
    model: Mapping[str, Any],
    device: str,
    *,
    overwrite: bool,
    one_each: bool = True,
) -> None:
    """Run an experiment that needs the models behind the results.

    With `one_each`, it is measured once for each scan and model, whatever the number of results.
    """
    from segxai.cli.progress import watched
    from segxai.experiments.frame import cases_in, one_a_model, run_experiment
    from segxai.experiments.probe import Access

    with watched(afterwards=GOES_ON) as progress:
        cases = cases_in(results)
        if one_each:
            cases = one_a_model(cases, progress)
        experiment = build(cases, Access(restoring.places_of(**model), device, progress))
        found = run_experiment(experiment, cases, out, overwrite=overwrite, progress=progress)
        progress.close()
        _print(*found)


def _print(report: Any, written: Sequence[Path]) -> None:
    from segxai.cli.terminal import echo

    for line in report.text:
        echo(line)
    for path in written:
        echo(f"written: {path}")


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    """Select the settings that were given."""
    return {name: value for name, value in asked.items() if value not in (None, ())}
