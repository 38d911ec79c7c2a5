"""The task: a model, a case and the options of a run, checked and made ready."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, collecting, option
from segxai.methods.method import Method, takes_rows
from segxai.models.inspection import inspect
from segxai.plugins.adapter import Adapter, CheckObjects
from segxai.run.device import find_device
from segxai.run.options import Options, Predicted, Target
from segxai.run.provenance import case_provenance
from segxai.run.reference import of_class
from segxai.run.resolve import choose, criteria_for, resolve
from segxai.run.runs import Group, Run, grouped, runs_of
from segxai.segment.mirrored import Mirrored
from segxai.segment.prediction import Prediction
from segxai.segment.predictor import Predictor
from segxai.types import Case, Instance, InstanceCriteria, Progress, Quiet


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the pipeline runs.

    Parameters
    ----------
    case : Case
        The image.
    options : Options
        Resolved: nothing that values depend on is left to a default.
    prediction : Prediction
        What the model predicts: the network with its windows on the case's grid.
    method : Method
        How instances are attributed.
    groups : tuple of Group
        One run for each pair of an aggregator and a score; those of a group share their rows.
    criteria : InstanceCriteria
        What counts as an instance.
    case_provenance : mapping
        What the maps of all runs on the case depend on.
    check_objects : callable
        Maps the case and the objects in it to warnings.
    notes, warnings : tuple of str
        What the user should know about the model and the options.
    instances : tuple of Instance
        All instances of the case, once they are found.
    folds : tuple of Adapter
        The model with the weights of other folds, for the instances' structural uncertainty.
    """

    case: Case
    options: Options
    prediction: Prediction
    method: Method
    groups: tuple[Group, ...]
    criteria: InstanceCriteria
    case_provenance: Mapping[str, Any]
    check_objects: CheckObjects
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    progress: Progress = field(default_factory=Quiet)
    instances: tuple[Instance, ...] = ()
    folds: tuple[Adapter, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, group by group."""
        return tuple(run for group in self.groups for run in group)

    @property
    def predictor(self) -> Predictor:
        """The network with its windows."""
        return self.prediction.predictor

    @property
    def image(self) -> Float[Tensor, "1 channel *grid"]:
        """The image on the device of the run."""
        return torch.from_numpy(self.case.image)[None].to(self.options.compute.device)


def prepare(
    adapter: Adapter,
    case: Case,
    options: Options,
    *,
    folds: Sequence[Adapter] = (),
    progress: Progress | None = None,
) -> Task:
    """Prepare the task of explaining a case.

    Parameters
    ----------
    folds : sequence of Adapter
        See `Task`.

    Raises
    ------
    SegxaiError
        If a name is not known, options exclude each other, the weights cannot be used, or a fold
        has other channels or classes.
    """
    with collecting() as warnings:
        task = _prepare(adapter, case, options, tuple(folds), progress or Quiet())
    return replace(task, warnings=tuple(warnings))


def _prepare(
    adapter: Adapter, case: Case, options: Options, folds: tuple[Adapter, ...], progress: Progress
) -> Task:
    _check_folds(adapter, folds)
    method, device = choose(options), find_device(options.compute.device)
    criteria = criteria_for(adapter, options.target)
    network = network_of(adapter, options.target).to(device)
    prediction = adapter.prediction(network, case, criteria)
    case = _with_reference_of_class(adapter, case, prediction, criteria, options.target)
    target = options.target
    if method.scope == "class" or target.instances != Predicted() or target.controls or folds:
        prediction.class_logit(criteria)
    image = torch.from_numpy(case.image)[None].to(device)
    inspect(prediction.predictor, image, len(prediction.classes))
    layer = options.method.layer or adapter.layer
    compute = replace(options.compute, device=str(device))
    options = replace(options, compute=compute)
    explained = prediction.explained(criteria) or 0  # any detection will do for a trial
    options = resolve(options, method, prediction.predictor, case.image, explained, layer)
    runs = runs_of(options, method, case, prediction.classes)
    return Task(
        case=case,
        options=options,
        prediction=prediction,
        method=method,
        groups=grouped(runs, method, options, prediction),
        criteria=criteria,
        case_provenance=case_provenance(
            adapter, case, prediction, options.target, criteria, options.method.seed, folds
        ),
        check_objects=adapter.check_objects,
        notes=(*adapter.notes, *prediction.predictor.layout.notes(), *_about_rows(runs)),
        progress=progress,
        folds=folds,
    )


def _check_folds(adapter: Adapter, folds: Sequence[Adapter]) -> None:
    """Check that folds predict the same classes from the same channels."""
    for fold in folds:
        for kind in ("channels", "classes"):
            own, other = getattr(adapter, kind), getattr(fold, kind)
            if own != other:
                raise SegxaiError(
                    f"the fold {fold.weights.name if fold.weights else fold.name} has the {kind} "
                    f"{', '.join(other)}, and the model that is explained {', '.join(own)}: give "
                    "folds of one model"
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


def _about_rows(runs: Sequence[Run]) -> tuple[str, ...]:
    """Say where a sample of rows was asked for and none are needed."""
    if runs[0].options.rows is None or all(takes_rows(run.context.aggregator) for run in runs):
        return ()
    return (f"{option('rows')} changes nothing: the map takes one backward pass and is exact",)


def network_of(adapter: Adapter, target: Target) -> nn.Module:
    """Load the adapter's network, averaged over mirror images if that is asked for.

    Raises
    ------
    SegxaiError
        If the adapter names no axes to mirror, or its weights cannot be used.
    """
    if target.tta and not adapter.mirror_axes:
        raise SegxaiError(f"{adapter.name!r} names no axes to mirror: leave out {option('tta')}")
    network = adapter.load_network()
    output = getattr(adapter.predict, "output", None)
    return Mirrored(network, adapter.mirror_axes, output) if target.tta else network
