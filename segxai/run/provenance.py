"""Provenance: what the maps of a result depend on, for the record."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from segxai.instances import InstanceCriteria
from segxai.load.volumes import file_sha256
from segxai.methods.method import Method, Settings
from segxai.methods.noise import stop_at
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import describe
from segxai.rows.lowrank import LowRank
from segxai.run.options import Request
from segxai.store.schema import versions
from segxai.types import Case


def case_provenance(
    adapter: Adapter,
    case: Case,
    request: Request,
    criteria: InstanceCriteria,
    checkpoint: Path | None,
    mask: Path | None,
) -> dict[str, Any]:
    """Describe what all maps of a case depend on, without folders, which can name a patient."""
    weights = adapter.weights(checkpoint)
    return {
        "versions": versions(),
        "plugin": dict(adapter.origin) or _package_of(adapter),
        **({"notes": list(adapter.notes)} if adapter.notes else {}),
        **({"tta": list(adapter.mirror_axes)} if request.tta else {}),
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
        "rule": {"class": _class_asked(adapter, request, criteria), **asdict(criteria)},
        "domains": _domains(request, mask),
    }


def _domains(request: Request, mask: Path | None) -> dict[str, Any]:
    """Describe where the instances come from."""
    if mask is not None:
        return {"origin": mask.name, "sha256": file_sha256(mask), "split": request.split}
    if request.spheres:
        return {"origin": "spheres", "spheres": [list(one) for one in request.spheres]}
    return {"origin": "predicted"}


def _class_asked(adapter: Adapter, request: Request, criteria: InstanceCriteria) -> str | None:
    """Return the name of the class that is explained; None for all that a model detects."""
    is_asked = request.class_name is not None or request.class_index is not None
    return adapter.classes[criteria.class_index] if is_asked or adapter.detect is None else None


def _package_of(adapter: Adapter) -> dict[str, str]:
    plugin = describe("adapter", adapter.name)
    return {"name": plugin.name, "package": plugin.package, "version": plugin.version}


def run_provenance(
    request: Request, method: Method, settings: Settings, device: torch.device
) -> dict[str, Any]:
    """Describe what the maps of one run depend on, and what they were computed with."""
    aggregator = settings.aggregator.name if settings.aggregator else None
    named = {"method": method.name, "aggregator": aggregator}
    found = {kind: describe(kind, name) for kind, name in named.items() if name}
    return {
        **named,
        "packages": {kind: f"{info.package} {info.version}" for kind, info in found.items()},
        "layer": settings.layer,
        "score": request.score,
        **(_copies(request, settings) if method.smooths else {}),
        "seed": request.seed,
        "rows": request.rows,
        "crop_mm": request.crop_mm,
        "engine": request.engine,
        **_approximation(request),
        "instances": list(request.instances) if request.instances else "all",
        "device": str(device),
        "batch": request.batch,
    }


def _copies(request: Request, settings: Settings) -> dict[str, Any]:
    """Describe the noisy copies; rare options only if used, so that older results can resume."""
    return {
        "samples": request.samples,
        **({"tolerance": stop_at(settings)} if request.samples == "auto" else {}),
        **({"antithetic": True} if request.antithetic else {}),
        "noise": request.noise,
        "noise_unit": request.noise_unit,
        "noise_levels": list(settings.noise_levels),
    }


def _approximation(request: Request) -> dict[str, Any]:
    """Describe what makes rows inexact; empty where they are exact."""
    found: dict[str, Any] = {}
    if request.engine == "lowrank":
        found["row_tolerance"] = request.tolerance or LowRank().tolerance
    if request.precision != "float32":
        found["precision"] = request.precision
    return found
