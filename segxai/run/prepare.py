"""The task: a model, a case and the options of a run, checked and made ready."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from segxai.errors import SegxaiError, collecting, option, unknown_name
from segxai.methods.layers import default_layer_of, find_layer
from segxai.methods.method import Context, Method
from segxai.methods.noise import noise_levels, stop_at
from segxai.methods.options import MethodOptions
from segxai.methods.own_options import own_options
from segxai.methods.together import Together, group_pairs
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.lowrank import LowRank
from segxai.rows.scores import base_of, find_score
from segxai.run.options import Options, Predicted, Target
from segxai.run.provenance import case_provenance, run_provenance
from segxai.run.reference import of_class
from segxai.segment.mirrored import Mirrored
from segxai.segment.prediction import Prediction
from segxai.segment.predictor import Predictor
from segxai.types import Case, InstanceCriteria, Progress, Quiet


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


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the pipeline runs.

    Parameters
    ----------
    adapter, case
        The model's adapter, and the image.
    options : Options
        Resolved: nothing that values depend on is left to a default.
    prediction : Prediction
        What the model predicts: the network with its windows on the case's grid.
    method : Method
        How instances are attributed.
    groups : tuple of tuple of Run
        One run for each pair of an aggregator and a score; those of a group share their rows.
    criteria : InstanceCriteria
        What counts as an instance.
    case_provenance : mapping
        What the maps of all runs on the case depend on.
    warnings : tuple of str
        What the user should know about the model and the options.
    """

    adapter: Adapter
    case: Case
    options: Options
    prediction: Prediction
    method: Method
    groups: tuple[tuple[Run, ...], ...]
    criteria: InstanceCriteria
    case_provenance: Mapping[str, Any]
    device: torch.device
    warnings: tuple[str, ...] = ()
    progress: Progress = field(default_factory=Quiet)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, group by group."""
        return tuple(run for group in self.groups for run in group)

    @property
    def predictor(self) -> Predictor:
        """The network with its windows."""
        return self.prediction.predictor


def prepare(
    adapter: Adapter,
    case: Case,
    options: Options,
    *,
    progress: Progress | None = None,
) -> Task:
    """Prepare the task of explaining a case.

    Raises
    ------
    SegxaiError
        If a name is not known, options exclude each other, or the weights cannot be used.
    """
    with collecting() as warnings:
        task = _prepare(adapter, case, options, progress or Quiet())
    return replace(task, warnings=tuple(warnings))


def _prepare(adapter: Adapter, case: Case, options: Options, progress: Progress) -> Task:
    method, device = choose(options), find_device(options.compute.device)
    criteria = criteria_for(adapter, options.target)
    network = _network(adapter, options.target).to(device)
    prediction = adapter.prediction(network, case, criteria)
    case = _with_reference_of_class(adapter, case, prediction, criteria, options.target)
    if method.scope == "class" or options.target.instances != Predicted():
        prediction.class_logit(criteria)
    predictor = prediction.predictor
    layer = options.method.layer or adapter.layer
    compute = replace(options.compute, device=str(device))
    options = resolve(replace(options, compute=compute), method, predictor, case.image, layer)
    runs = runs_of(options, method, case.image, case.foreground)
    return Task(
        adapter=adapter,
        case=case,
        options=options,
        prediction=prediction,
        method=method,
        groups=grouped(runs, method, options, predictor, len(prediction.classes)),
        criteria=criteria,
        case_provenance=case_provenance(adapter, case, prediction, options.target, criteria),
        device=device,
        progress=progress,
    )


def _with_reference_of_class(
    adapter: Adapter,
    case: Case,
    prediction: Prediction,
    criteria: InstanceCriteria,
    target: Target,
) -> Case:
    """Keep those of the reference's labels that are objects of the class."""
    reference = of_class(
        case.reference,
        adapter.classes,
        criteria.class_index,
        activation=prediction.predictor.activation,
        label=target.reference_label,
    )
    return replace(case, reference=reference)


def choose(options: Options) -> Method:
    """Load the method of some options; cheap, and done before any image is read.

    Raises
    ------
    SegxaiError
        If a name is not known, or an option does not fit the method.
    """
    asked = options.method
    method = load_method(asked.method)
    for score in asked.score:
        find_score(score)
    for name in asked.aggregator:
        load_aggregator(name)
    own_options(method, asked.method_options)
    if asked.aggregator and not method.aggregator:
        raise SegxaiError(
            f"method {method.name!r} has no rows to aggregate: leave out {option('aggregator')}"
        )
    if asked.layer and not method.needs_layer:
        raise SegxaiError(f"method {method.name!r} uses no layer: leave out {option('layer')}")
    if not method.smooths and (asked.noise.antithetic or asked.noise.samples == "auto"):
        raise SegxaiError(
            f"method {method.name!r} makes no noisy copies: leave out {option('antithetic')} and "
            f"{option('samples', 'auto')}"
        )
    is_chosen = options.target.labels is not None or options.target.instances != Predicted()
    if method.scope == "class" and is_chosen:
        raise SegxaiError(
            f"method {method.name!r} explains the whole class at once: leave out "
            f"{option('instances')}"
        )
    return method


def resolve(
    options: Options,
    method: Method,
    predictor: Predictor,
    image: Float[np.ndarray, "channel *grid"],
    layer: str | None,
) -> Options:
    """Fill in what was left to a default of the method, the model or the engine."""
    if method.needs_layer and layer is None:
        layer = default_layer_of(predictor, torch.from_numpy(image)[None])
    if method.needs_layer and layer is not None:
        find_layer(predictor.network, layer)
    own = own_options(method, options.method.method_options)
    resolved = replace(
        options.method,
        aggregator=options.method.aggregator or ((method.aggregator,) if method.aggregator else ()),
        layer=layer if method.needs_layer else None,
        method_options=asdict(own) if own is not None else {},
        noise=replace(options.method.noise, tolerance=stop_at(options.method.noise)),
    )
    numerics = options.numerics
    if options.compute.engine == "lowrank" and numerics.row_tolerance is None:
        numerics = replace(numerics, row_tolerance=LowRank().tolerance)
    return replace(options, method=resolved, numerics=numerics)


def runs_of(
    options: Options,
    method: Method,
    image: Float[np.ndarray, "channel *grid"],
    foreground: Bool[np.ndarray, "*grid"],
) -> tuple[Run, ...]:
    """Build a run for each pair of an aggregator and a score, in their order."""
    noise = options.method.noise
    levels = noise_levels(image, foreground, noise.noise, noise.noise_unit)
    runs = []
    for aggregator in options.method.aggregator or (None,):
        context = Context(
            aggregator=load_aggregator(aggregator) if aggregator else None,
            noise_levels=levels,
            own=own_options(method, options.method.method_options),
            numerics=options.numerics,
            compute=options.compute,
        )
        for score in options.method.score:
            pair = options.method.of_pair(aggregator, score)
            runs.append(Run(pair, context, run_provenance(options, pair, method, levels)))
    return tuple(runs)


def grouped(
    runs: Sequence[Run], method: Method, options: Options, predictor: Predictor, classes: int
) -> tuple[tuple[Run, ...], ...]:
    """Group the runs that can share their rows."""
    if method.together is None or options.compute.engine == "lowrank":
        return tuple((run,) for run in runs)
    pairs = [(run.context.aggregator, run.options.only_score) for run in runs]
    found = group_pairs(pairs, options.method, predictor, classes)
    return tuple(tuple(runs[number] for number in group) for group in found)


def together_for(group: Sequence[Run], predictor: Predictor, classes: int) -> Together:
    """Put the aggregators and scores of a group of runs together."""
    score = group[0].options.only_score
    folds = [(run.context.aggregator, run.options.only_score) for run in group]
    kept = tuple((aggregator, score) for aggregator, score in folds if aggregator is not None)
    return Together(kept, base_of(score, classes, predictor.activation))


def criteria_for(adapter: Adapter, target: Target) -> InstanceCriteria:
    """Return what counts as an instance: the adapter's choice where the user makes none.

    Raises
    ------
    SegxaiError
        If the class is not known.
    """
    given = {
        name: getattr(target, name)
        for name in ("threshold", "min_volume_mm3", "connectivity")
        if getattr(target, name) is not None
    }
    return replace(adapter.criteria, class_index=_class_index(adapter, target), **given)


def _class_index(adapter: Adapter, target: Target) -> int | None:
    """Find the class that is explained, from its name or its number."""
    if target.class_name is not None:
        if target.class_name not in adapter.classes:
            raise unknown_name("class", target.class_name, adapter.classes)
        return adapter.classes.index(target.class_name)
    if target.class_index is None:
        return adapter.criteria.class_index
    if not 0 <= target.class_index < len(adapter.classes):
        raise SegxaiError(f"no class {target.class_index}; known: 0 to {len(adapter.classes) - 1}")
    return target.class_index


def _network(adapter: Adapter, target: Target) -> nn.Module:
    """Load the adapter's network, averaged over mirror images if that is asked for."""
    if target.tta and not adapter.mirror_axes:
        raise SegxaiError(f"{adapter.name!r} names no axes to mirror: leave out {option('tta')}")
    network = adapter.load_network()
    return Mirrored(network, adapter.mirror_axes) if target.tta else network


def find_device(name: str) -> torch.device:
    """Find the device of this name; "auto" is the first GPU, or the CPU.

    Raises
    ------
    SegxaiError
        If no such device is available.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(f"cuda:{number}" for number in range(count))]
    if name == "auto":
        return torch.device(known[1] if count else "cpu")
    if (f"{name}:0" if name == "cuda" else name) not in known:
        raise SegxaiError(f"device {name!r} is not available; known: auto, {', '.join(known)}")
    return torch.device(name)
