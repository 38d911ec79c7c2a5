"""Runs: each pair of an aggregator and a score, what it computes with, and which share rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from segxai.methods.method import Context, Method, takes_rows, with_rows_for
from segxai.methods.noise import noise_levels
from segxai.methods.options import MethodOptions
from segxai.methods.own_options import own_options
from segxai.methods.together import Together, group_pairs
from segxai.plugins.registry import load_aggregator
from segxai.rows.scores import base_of
from segxai.run.contrast import contrast_of
from segxai.run.cost import Plan, plan
from segxai.run.options import Options
from segxai.run.provenance import run_provenance
from segxai.segment.prediction import Prediction
from segxai.segment.predictor import Predictor
from segxai.types import Case, Instance


@dataclass(frozen=True)
class Run:
    """One aggregator, or none, and one score: a run of its own in the result file.

    Parameters
    ----------
    options : MethodOptions
        Resolved, of this pair alone.
    context : Context
        What the method computes with.
    provenance : mapping
        What the maps depend on.
    """

    options: MethodOptions
    context: Context
    provenance: Mapping[str, Any]


Group = tuple[Run, ...]  # runs that share their rows


def runs_of(
    options: Options, method: Method, case: Case, classes: Sequence[str] | None = None
) -> tuple[Run, ...]:
    """Build a run for each pair of an aggregator and a score, in their order.

    Parameters
    ----------
    classes : sequence of str, optional
        Names of the logits, if they have some.

    Raises
    ------
    SegxaiError
        If the class that a score is compared with is not known.
    """
    contrast = contrast_of(options.method.contrast, classes)
    noise = options.method.noise
    levels = noise_levels(case.image, case.foreground, noise.noise, noise.noise_unit)
    runs = []
    for aggregator in options.method.aggregator or (None,):
        context = Context(
            aggregator=load_aggregator(aggregator) if aggregator else None,
            noise_levels=levels,
            own=own_options(method, options.method.method_options),
            numerics=options.numerics,
            compute=options.compute,
            contrast=contrast,
            case=case,
        )
        for score in options.method.score:
            pair = options.method.of_pair(aggregator, score)
            runs.append(Run(pair, context, run_provenance(options, pair, method, levels)))
    return tuple(runs)


def grouped(
    runs: Sequence[Run], method: Method, options: Options, prediction: Prediction
) -> tuple[Group, ...]:
    """Group the runs that can share their rows."""
    if method.together is None or options.compute.engine == "lowrank":
        return tuple((run,) for run in runs)
    pairs = [(run.context.aggregator, run.options.only_score) for run in runs]
    classes = len(prediction.classes)
    found = group_pairs(pairs, options.method, prediction.predictor, classes)
    return tuple(tuple(runs[number] for number in group) for group in found)


def together_for(group: Group, prediction: Prediction) -> Together:
    """Put the aggregators and scores of a group of runs together."""
    score = group[0].options.only_score
    folds = [(run.context.aggregator, run.options.only_score) for run in group]
    kept = tuple((aggregator, score) for aggregator, score in folds if aggregator is not None)
    classes, activation = len(prediction.classes), prediction.predictor.activation
    return Together(kept, base_of(score, classes, activation))


def plan_group(
    group: Group,
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instances: Sequence[Instance],
    method: Method,
) -> Plan:
    """Plan the runs of a group: their rows are computed once."""
    run = next((one for one in group if takes_rows(one.context.aggregator)), group[0])
    selected = [with_rows_for(run.context.aggregator, one) for one in instances]
    cost = plan(predictor, image, selected, method, run.options, run.context)
    return replace(cost, disk_bytes=len(group) * cost.disk_bytes)
