"""The task: a model, a case and a request, checked and made ready to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from segxai.errors import SegxaiError, unknown_name
from segxai.instances import InstanceCriteria
from segxai.methods.layers import find_layer
from segxai.methods.method import Aggregator, Method, Settings
from segxai.methods.noise import noise_levels
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.engines import ENGINES
from segxai.rows.scores import find_score
from segxai.run.options import Request
from segxai.run.provenance import case_provenance, run_provenance
from segxai.segment.detections import Detections
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.mirrored import Mirrored
from segxai.segment.predictor import PRECISIONS, Predictor
from segxai.types import Case, Progress, Quiet


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work that the pipeline does: one request on one case.

    Parameters
    ----------
    adapter, case, request
        The model's adapter, the image, and what the user asks for.
    predictor : Predictor
        The network with its windows on the case's grid.
    method, settings
        How instances are attributed.
    criteria : InstanceCriteria
        What counts as an instance.
    classes : tuple of str
        Names of the predictor's logits: the adapter's, or one for each detection.
    detections : Detections, optional
        Detections of a model that finds instances itself.
    labels : ndarray of shape (*grid), optional
        A user's mask of instances, instead of the predicted ones.
    case_provenance, run_provenance : mapping
        What the maps depend on: the first for all runs on the case, the second for this one.
    """

    adapter: Adapter
    case: Case
    request: Request
    predictor: Predictor
    method: Method
    settings: Settings
    criteria: InstanceCriteria
    classes: tuple[str, ...]
    detections: Detections | None
    labels: Int[np.ndarray, "*grid"] | None
    case_provenance: Mapping[str, Any]
    run_provenance: Mapping[str, Any]
    device: torch.device
    progress: Progress = field(default_factory=Quiet)


@dataclass(frozen=True)
class Choice:
    """The named parts of a request, looked up."""

    method: Method
    aggregator: Aggregator | None
    device: torch.device


def choose(request: Request) -> Choice:
    """Look up the names in a request; cheap, and done before any image is read.

    Raises
    ------
    SegxaiError
        If a name is not known, or does not fit the method.
    """
    method = load_method(request.method)
    find_score(request.score)
    if request.aggregator and not method.aggregator:
        raise SegxaiError(
            f"method {method.name!r} has no rows to aggregate: leave out the aggregator"
        )
    if request.layer and not method.needs_layer:
        raise SegxaiError(f"method {method.name!r} uses no layer: leave out the layer")
    if not method.smooths and (request.antithetic or request.samples == "auto"):
        raise SegxaiError(
            f"method {method.name!r} makes no noisy copies: leave out --antithetic and --samples "
            "auto"
        )
    if request.engine not in ("auto", *ENGINES):
        raise unknown_name("engine", request.engine, ("auto", *ENGINES))
    if request.precision not in PRECISIONS:
        raise unknown_name("precision", request.precision, PRECISIONS)
    name = request.aggregator or method.aggregator
    return Choice(method, load_aggregator(name) if name else None, find_device(request.device))


def settings_for(
    request: Request,
    choice: Choice,
    image: Float[np.ndarray, "channel *grid"],
    foreground: Bool[np.ndarray, "*grid"],
    layer: str | None,
) -> Settings:
    """Build the settings of the chosen method for this image."""
    return Settings(
        aggregator=choice.aggregator,
        samples=request.samples,
        tolerance=request.tolerance,
        antithetic=request.antithetic,
        noise_levels=noise_levels(image, foreground, request.noise, request.noise_unit),
        seed=request.seed,
        score=request.score,
        layer=layer,
        engine=request.engine,
        batch=request.batch,
        precision=request.precision,
    )


def prepare(
    adapter: Adapter,
    case: Case,
    request: Request,
    *,
    checkpoint: Path | None = None,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> Task:
    """Prepare the task of explaining a case.

    Parameters
    ----------
    checkpoint : Path, optional
        Weights to load instead of the adapter's own.
    mask : Path, optional
        An integer mask whose labels are the instances, instead of the predicted ones.

    Raises
    ------
    SegxaiError
        If a name is not known, or the checkpoint or the mask cannot be used.
    """
    choice = choose(request)
    criteria = adapter.criteria(
        request.class_name, request.threshold, request.min_volume_mm3, request.class_index
    )
    network = _network(adapter, request, checkpoint).to(choice.device)
    layer = _layer(adapter, request, choice.method, network)
    _check_domains(adapter, choice.method, request, mask)
    detections = _detect(adapter, network, case, criteria)
    settings = settings_for(request, choice, case.image, case.foreground, layer)
    return Task(
        adapter=adapter,
        case=case,
        request=request,
        predictor=detections.predictor if detections else adapter.predict_with(network, case),
        method=choice.method,
        settings=settings,
        criteria=criteria,
        classes=detections.classes if detections else adapter.classes,
        detections=detections,
        labels=None if mask is None else adapter.load_labels(mask, case),
        case_provenance=case_provenance(adapter, case, request, criteria, checkpoint, mask),
        run_provenance=run_provenance(request, choice.method, settings, choice.device),
        device=choice.device,
        progress=progress or Quiet(),
    )


def _network(adapter: Adapter, request: Request, checkpoint: Path | None) -> nn.Module:
    """Load the adapter's network, averaged over mirror images if the request asks for that."""
    if request.tta and not adapter.mirror_axes:
        raise SegxaiError(f"{adapter.name!r} names no axes to mirror: leave out --tta")
    network = adapter.load_network(checkpoint)
    return Mirrored(network, adapter.mirror_axes) if request.tta else network


def _check_domains(adapter: Adapter, method: Method, request: Request, mask: Path | None) -> None:
    """Check that a model that finds instances itself is not asked to explain any others."""
    domains = mask.name if mask else "sphere:..." if request.spheres else None
    if adapter.detect and (method.scope == "class" or domains):
        asked = f"--instances {domains}" if domains else f"method {method.name!r}"
        raise SegxaiError(
            f"{asked} needs a logit for each class and pixel, but {adapter.name!r} scores each "
            "detection by itself; use a semantic segmentation model instead"
        )


def _detect(
    adapter: Adapter, network: nn.Module, case: Case, criteria: InstanceCriteria
) -> Detections | None:
    """Run a model that finds instances itself; None for one that gives logits of classes."""
    if adapter.detect is None:
        return None
    with torch.no_grad(), frozen(network), exact_arithmetic():
        found = adapter.detect(network, case, criteria)
    if not found.names:
        raise SegxaiError(f"{adapter.name!r} detects nothing in {case.name}")
    return found


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


def _layer(adapter: Adapter, request: Request, method: Method, network: nn.Module) -> str | None:
    """Find the name of the layer that a method needs; None leaves the choice to the method."""
    if not method.needs_layer:
        return None
    name = request.layer or adapter.layer
    if name:
        find_layer(network, name)
    return name
