"""The task: a model, a case and a request, checked and made ready to run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from segxai.adapter import Adapter
from segxai.engines import ENGINES
from segxai.errors import SegxaiError, unknown_name
from segxai.images import file_sha256
from segxai.instances import Rule
from segxai.layers import find_layer
from segxai.lowrank import LowRank
from segxai.method import Method, Settings
from segxai.methods.smoothgrad import noise_levels, stop_at
from segxai.plugins import describe, load_aggregator, load_method
from segxai.protocols import Aggregator, Progress, Quiet
from segxai.request import Request
from segxai.results import versions
from segxai.scores import find_score
from segxai.segmentation import PRECISIONS, Predictor
from segxai.types import Case


@dataclass(frozen=True)
class Task:
    """What the pipeline runs.

    Parameters
    ----------
    adapter, case, request
        The model's adapter, the image, and what is asked.
    predictor : Predictor
        The network with its windows on the case's grid.
    method, settings
        How instances are attributed.
    rule : Rule
        What counts as an instance.
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
    rule: Rule
    labels: Int[np.ndarray, "*grid"] | None
    case_provenance: Mapping[str, Any]
    run_provenance: Mapping[str, Any]
    device: torch.device
    progress: Progress = field(default_factory=Quiet)


@dataclass(frozen=True)
class Choice:
    """The parts of a request that have names, looked up."""

    method: Method
    aggregator: Aggregator | None
    device: torch.device


def choose(request: Request) -> Choice:
    """Look up the names of a request: cheap, and before any image is read.

    Raises
    ------
    SegxaiError
        If a name is not known, or does not go with the method.
    """
    method = load_method(request.method)
    find_score(request.score)
    if request.aggregator and not method.aggregator:
        raise SegxaiError(f"method {method.name!r} has no rows to aggregate: give no aggregator")
    if request.layer and not method.needs_layer:
        raise SegxaiError(f"method {method.name!r} looks at no layer: give no layer")
    if not method.smooths and (request.antithetic or request.samples == "auto"):
        raise SegxaiError(
            f"method {method.name!r} makes no noisy copies: give no --antithetic, no --samples auto"
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
    """What the chosen method is told about this image."""
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
    """The task of explaining a case.

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
    rule = adapter.rule(request.class_name, request.threshold, request.min_volume_mm3)
    network = adapter.load_network(checkpoint).to(choice.device)
    layer = _layer(adapter, request, choice.method, network)
    settings = settings_for(request, choice, case.image, case.foreground, layer)
    return Task(
        adapter,
        case,
        request,
        Predictor(network, adapter.layout(case.grid.shape)),
        choice.method,
        settings,
        rule,
        None if mask is None else adapter.load_labels(mask, case),
        _case_provenance(adapter, case, request, rule, checkpoint, mask),
        _run_provenance(request, choice, settings),
        choice.device,
        progress or Quiet(),
    )


def find_device(name: str) -> torch.device:
    """The device of this name; "auto" is the first GPU, or the CPU.

    Raises
    ------
    SegxaiError
        If there is no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(f"cuda:{number}" for number in range(count))]
    if name == "auto":
        return torch.device(known[1] if count else "cpu")
    if (f"{name}:0" if name == "cuda" else name) not in known:
        raise SegxaiError(f"device {name!r} is not here; known: auto, {', '.join(known)}")
    return torch.device(name)


def _layer(adapter: Adapter, request: Request, method: Method, network: nn.Module) -> str | None:
    """The name of the layer that a method needs, checked; None leaves the choice to the method."""
    if not method.needs_layer:
        return None
    name = request.layer or adapter.layer
    if name:
        find_layer(network, name)
    return name


def _case_provenance(
    adapter: Adapter,
    case: Case,
    request: Request,
    rule: Rule,
    checkpoint: Path | None,
    mask: Path | None,
) -> dict[str, Any]:
    """What all maps of a case depend on. File names only: folders can name a patient."""
    plugin = describe("adapter", adapter.name)
    weights = adapter.weights(checkpoint)
    domains: dict[str, Any] = {"origin": "predicted"}
    if mask is not None:
        domains = {"origin": mask.name, "sha256": file_sha256(mask), "split": request.split}
    return {
        "versions": versions(),
        "plugin": {"name": plugin.name, "package": plugin.package, "version": plugin.version},
        "weights": {"name": weights.name, "sha256": file_sha256(weights)} if weights else None,
        "case": {
            "name": case.name,
            "channels": list(case.channels),
            "sources": [asdict(source) for source in case.sources],
            "notes": list(case.notes),
            "warnings": list(case.warnings),
        },
        "window": {
            "size": list(adapter.window),
            "overlap": adapter.overlap,
            "blend": "gaussian",
        }
        if adapter.window
        else "whole image",
        "rule": {"class": adapter.classes[rule.class_index], **asdict(rule)},
        "domains": domains,
    }


def _run_provenance(request: Request, choice: Choice, settings: Settings) -> dict[str, Any]:
    """What the maps of one run depend on, and with what they were computed."""
    smooth = {
        "samples": request.samples,
        # Named where they matter only, so that older results can be continued.
        **({"tolerance": stop_at(settings)} if request.samples == "auto" else {}),
        **({"antithetic": True} if request.antithetic else {}),
        "noise": request.noise,
        "noise_unit": request.noise_unit,
        "noise_levels": list(settings.noise_levels),
    }
    aggregator = choice.aggregator.name if choice.aggregator else None
    named = {"method": choice.method.name, "aggregator": aggregator}
    found = {kind: describe(kind, name) for kind, name in named.items() if name}
    return {
        **named,
        "packages": {kind: f"{info.package} {info.version}" for kind, info in found.items()},
        "layer": settings.layer,
        "score": request.score,
        **(smooth if choice.method.smooths else {}),
        "seed": request.seed,
        "rows": request.rows,
        "crop_mm": request.crop_mm,
        "engine": request.engine,
        **_approximation(request),
        "instances": list(request.instances) if request.instances else "all",
        "device": str(choice.device),
        "batch": request.batch,
    }


def _approximation(request: Request) -> dict[str, Any]:
    """What makes rows other than exact; nothing where they are."""
    found: dict[str, Any] = {}
    if request.engine == "lowrank":
        found["row_tolerance"] = request.tolerance or LowRank().tolerance
    if request.precision != "float32":
        found["precision"] = request.precision
    return found
