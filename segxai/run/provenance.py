"""Provenance: the resolved options of a run, and what else its maps depend on, for the record."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segxai.load.itk import recorded_name
from segxai.load.volumes import file_sha256
from segxai.matching import ANY
from segxai.methods.method import Method
from segxai.methods.options import MethodOptions
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import describe
from segxai.run.options import Balls, Mask, Options, Result, Source, Target
from segxai.segment.prediction import Prediction, SlidingWindow
from segxai.store.schema import as_json, versions
from segxai.types import Case, InstanceCriteria


def case_provenance(
    adapter: Adapter,
    case: Case,
    prediction: Prediction,
    target: Target,
    criteria: InstanceCriteria,
    seed: int,
    folds: Sequence[Adapter] = (),
) -> dict[str, Any]:
    """Describe what all maps of a case depend on, without folders, which can name a patient.

    Folds, on which no map depends, are named for the instances' uncertainty.
    """
    index, output = criteria.class_index, prediction.predictor.output
    return {
        "versions": versions(),
        "plugin": dict(adapter.origin) or _package_of(adapter),
        **({"notes": list(adapter.notes)} if adapter.notes else {}),
        "weights": _weights(adapter),
        **({"folds": [_weights(fold) for fold in folds]} if folds else {}),
        "case": {
            "name": case.name,
            **({"patient": case.patient} if case.patient else {}),
            **({"session": case.session} if case.session else {}),
            "channels": list(case.channels),
            "sources": [asdict(source) for source in case.sources],
            "notes": list(case.notes),
            "warnings": list(case.warnings),
        },
        "window": _window(adapter, prediction),
        **({} if output is None else {"output": str(output)}),
        "target": {
            "class": None if index is None else adapter.classes[index],
            **_criteria(criteria),
            "instances": instances_provenance(target.instances),
            **({"reference_label": target.reference_label} if target.reference_label else {}),
            **_controls(target, seed),
            **({"tta": list(adapter.mirror_axes)} if target.tta else {}),
        },
    }


def _criteria(criteria: InstanceCriteria) -> dict[str, Any]:
    """Describe what counts as an instance; the usual rule of matching goes without saying."""
    described = asdict(criteria)
    return {name: value for name, value in described.items() if (name, value) != ("match", ANY)}


def _controls(target: Target, seed: int) -> dict[str, Any]:
    """Describe the controls: those of a case are the same for all its runs."""
    if not target.controls:
        return {}
    return {"controls": list(target.controls), "controls_seed": seed}


def instances_provenance(source: Source) -> dict[str, Any]:
    """Describe where the instances come from; files by name and content, never by folder."""
    if isinstance(source, Mask):
        return {"origin": "mask", **_file_of(source.path), "split": source.split}
    if isinstance(source, Balls):
        return {"origin": "balls", "balls": [list(one) for one in source.balls]}
    if isinstance(source, Result):
        known = {"name": source.path.name, "sha256": file_sha256(source.path)}
        return {"origin": "result", **known}
    return {"origin": "predicted"}


def _file_of(path: Path) -> dict[str, str]:
    """Describe a file by its name and content."""
    sha256 = file_sha256(path)
    return {"name": recorded_name(path, sha256), "sha256": sha256}


def _weights(adapter: Adapter) -> dict[str, str] | None:
    """Describe the file of the weights, and which set in it was asked for."""
    if adapter.weights is None:
        return None
    key = {} if adapter.weights_key is None else {"key": adapter.weights_key}
    return {"name": adapter.weights.name, "sha256": file_sha256(adapter.weights), **key}


def _window(adapter: Adapter, prediction: Prediction) -> dict[str, Any] | str:
    """Describe what the network sees at once."""
    if isinstance(adapter.predict, SlidingWindow):
        predict = adapter.predict
        laid = {"evenly": predict.evenly, "divisor": predict.divisor}
        given = {name: value for name, value in laid.items() if value}
        size, overlap = list(predict.size), predict.overlap
        return {"size": size, "overlap": overlap, "blend": "gaussian", **given}
    windows = prediction.predictor.layout.windows
    if len(windows) == 1:
        return "whole image"
    return {"size": list(windows[0].size), "windows": len(windows)}


def _package_of(adapter: Adapter) -> dict[str, str]:
    plugin = describe("adapter", adapter.name)
    return {"name": plugin.name, "package": plugin.package, "version": plugin.version}


def run_provenance(
    options: Options, pair: MethodOptions, method: Method, noise_levels: tuple[float, ...]
) -> dict[str, Any]:
    """Describe what the maps of one run depend on, and what they were computed with.

    Parameters
    ----------
    options : Options
        Resolved.
    pair : MethodOptions
        Of this run: its aggregator, if it has one, and its score.
    """
    aggregator = pair.aggregator[0] if pair.aggregator else None
    named = {"method": method.name, "aggregator": aggregator}
    found = {kind: describe(kind, name) for kind, name in named.items() if name}
    noise = {**asdict(pair.noise), "noise_levels": list(noise_levels)} if method.smooths else {}
    labels = options.target.labels
    described = {
        **named,
        "packages": {kind: f"{info.package} {info.version}" for kind, info in found.items()},
        "score": pair.only_score,
        **({} if pair.contrast is None else {"contrast": pair.contrast}),
        "layer": pair.layer,
        **({"layer_layout": pair.layer_layout} if pair.layer else {}),
        "rows": pair.rows,
        "seed": pair.seed,
        **({"random": True} if method.random else {}),
        "method_options": {
            name: _file_of(value) if isinstance(value, Path) else value
            for name, value in pair.method_options.items()
        },
        **noise,
        "numerics": asdict(options.numerics),
        "crop_mm": options.crop_mm,
        "labels": "all" if labels is None else list(labels),
        "compute": asdict(options.compute),
    }
    plain: dict[str, Any] = json.loads(as_json(described))  # as it will be read: no tuples
    return plain
