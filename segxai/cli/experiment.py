"""`segxai experiment`: the paper's experiments, each a command on results and cohorts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segxai.cli.options import experiments, restoring
from segxai.cli.options.results import Results
from segxai.cli.parsing import names_of, numbers_of, range_of
from segxai.cli.signature import with_options_of

if TYPE_CHECKING:
    from segxai.experiments.cases import CaseFile
    from segxai.experiments.frame import Experiment
    from segxai.experiments.probe import Access

GOES_ON = "finished cases are kept, and the same command goes on from there"

app = typer.Typer(
    name="experiment",
    help="Repeat an experiment of the paper on results, or on a cohort's folder.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Build = Callable[[Sequence["CaseFile"], "Access"], "Experiment"]


@app.command()
@with_options_of(restoring.places_of)
def context(
    results: Results,
    out: experiments.Out,
    fills: experiments.ContextFills = None,
    steps: experiments.Steps = None,
    volume: experiments.Volume = None,
    outcomes: experiments.Outcomes = None,
    dilation: experiments.Dilation = True,
    device: restoring.Device = "auto",
    overwrite: experiments.Overwrite = False,
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
    out: experiments.Out,
    fills: experiments.BackgroundFills = None,
    where: experiments.Where = None,
    label: experiments.Label = None,
    places: experiments.Places = 10,
    contrasts: experiments.Contrasts = None,
    sizes: experiments.Sizes = None,
    seed: experiments.Seed = 0,
    device: restoring.Device = "auto",
    overwrite: experiments.Overwrite = False,
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
    out: experiments.Out,
    cut: experiments.Cut = 0.0,
    shapley: experiments.Shapley = True,
    fill: experiments.ChannelFill = "healthy",
    within: experiments.Within = "domain",
    device: restoring.Device = "auto",
    overwrite: experiments.Overwrite = False,
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
def outcomes(
    results: Results, out: experiments.Out, overwrite: experiments.Overwrite = False
) -> None:
    """Compare the largest and smallest values of maps of TP, FP, FN and healthy tissue."""
    from segxai.experiments.outcomes.experiment import outcomes as build

    _run_on_tables(build, results, out, overwrite=overwrite)


@app.command()
def sizes(results: Results, out: experiments.Out, overwrite: experiments.Overwrite = False) -> None:
    """Compare how the peaks of maps depend on the size of a lesion, by mean and signed max."""
    from segxai.experiments.sizes.experiment import sizes as build

    _run_on_tables(build, results, out, overwrite=overwrite)


@app.command()
def flags(results: Results, out: experiments.Out, overwrite: experiments.Overwrite = False) -> None:
    """Test whether maps tell false alarms from lesions, beyond volume and probability."""
    from segxai.experiments.flags.experiment import flags as build

    _run_on_tables(build, results, out, overwrite=overwrite)


def _run_on_tables(
    build: Callable[[], "Experiment"], results: list[Path], out: Path, *, overwrite: bool
) -> None:
    """Run an experiment that reads results alone."""
    from segxai.cli.terminal import TerminalProgress
    from segxai.experiments.cases import cases_in
    from segxai.experiments.frame import run_experiment

    progress = TerminalProgress()
    try:
        cases = cases_in(results, progress)
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
    from segxai.experiments.cases import cases_in, one_a_model
    from segxai.experiments.frame import run_experiment
    from segxai.experiments.probe import Access

    with watched(afterwards=GOES_ON) as progress:
        cases = cases_in(results, progress)
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
