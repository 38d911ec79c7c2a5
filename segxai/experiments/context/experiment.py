"""Context: how much of the surroundings a model needs to see an instance (paper, section 3.5).

Everything outside of an instance's domain is replaced, and then given back by distance. How the
score in the domain rises with it says how far the model looks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.context.report import report
from segxai.experiments.cutting import Frame, strip_of
from segxai.experiments.fills import FILLS, Filler, check_fills, dilation_distance, usable_fills
from segxai.experiments.frame import Experiment, Measured
from segxai.experiments.probe import (
    Access,
    Probe,
    check_same_model,
    healthy_tissue,
    instances_of,
    ready,
)
from segxai.geometry import Box
from segxai.methods.cropping import on_map
from segxai.run.prepare import Task
from segxai.store.hdf5 import open_result
from segxai.store.schema import group
from segxai.types import Instance

PAPER_MM3 = (90.0, 120.0)
STRIP_STEPS = (1.0, 5.0, 24.0)  # of the paper's Fig. 13A
LEAST_INFLUENCE = 0.01  # of the largest: the measured reach


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of the experiment.

    Parameters
    ----------
    fills : tuple of str
        What replaces the surroundings.
    steps : tuple of float
        Distances in mm (pixels in pictures) up to which the image is given back.
    dilation : bool
        Also give it back by as many dilations of 18 neighbours, with the first fill, as the
        paper's scripts do.
    volume : tuple of float, optional
        Smallest and largest volume of an instance, in mm3 (pixels in pictures); all if not given.
    outcomes : tuple of str
        Which instances.
    """

    fills: tuple[str, ...] = FILLS
    steps: tuple[float, ...] = tuple(float(step) for step in range(26))
    dilation: bool = True
    volume: tuple[float, float] | None = None
    outcomes: tuple[str, ...] = ("TP", "")

    def __post_init__(self) -> None:
        check_fills(self.fills)
        if not self.steps or min(self.steps) < 0 or not np.isfinite(self.steps).all():
            raise SegxaiError(f"steps {self.steps}: give distances of 0 or more, such as 0,1,2")


def context(settings: Context, cases: Sequence[CaseFile], access: Access) -> Experiment:
    """Build the experiment on some cases.

    Raises
    ------
    SegxaiError
        If no instance is of the volume and the outcomes that are asked for.
    """
    settled = _settled(settings, cases, access)

    def measure(case: CaseFile) -> Measured:
        with open_result(case.path) as tree:
            return _measure(tree, case, settled, access)

    return Experiment(name="context", settings=settled, measure=measure, report=report)


def _settled(settings: Context, cases: Sequence[CaseFile], access: Access) -> Context:
    """Choose the volume: that of the paper where any instance has it, or else all; and say so."""
    sizes, unit = [], "mm3"
    for case in cases:
        with open_result(case.path) as tree:
            known = group(tree, "instances").load()
        unit = "mm3" if "volume_mm3" in known else "px"
        outcomes = known["outcome"].values.astype(str)
        sizes += known[_size(known)].values[np.isin(outcomes, settings.outcomes)].tolist()
    if not sizes:
        words = " or ".join(one or "(none)" for one in settings.outcomes)
        raise SegxaiError(f"no instance with the outcome {words} in the results; give others")
    spread = f"the {len(sizes)} instances have {min(sizes):.4g} to {max(sizes):.4g} {unit}"
    low, high = settings.volume or (PAPER_MM3 if unit == "mm3" else (0.0, inf))
    if any(low <= one <= high for one in sizes):
        return replace(settings, volume=(low, high))
    if settings.volume is not None:
        raise SegxaiError(
            f"no instance of {low:g} to {high:g} {unit}: {spread}; give another range"
        )
    access.progress.say(f"none of the paper's {low:g} to {high:g} {unit}: {spread}; taking all")
    return replace(settings, volume=(0.0, inf))


def _size(known: xr.Dataset) -> str:
    return "volume_mm3" if "volume_mm3" in known else "area_px"


def _measure(tree: xr.DataTree, case: CaseFile, settings: Context, access: Access) -> Measured:
    known = group(tree, "instances").load()
    chosen = _chosen(known, settings)
    if not chosen:
        return Measured({"steps": pd.DataFrame()})
    task = access.task(tree)
    instances = instances_of(task, tree)
    filler = Filler(task.case, healthy_tissue(task, tree, instances))
    passes = (len(settings.fills) + settings.dilation) * len(settings.steps)
    access.progress.begin(f"context {case.case}", len(chosen) * passes)
    rows: list[dict[str, Any]] = []
    with ready(task):
        for about in chosen:
            probe = Probe.of(task, instances[about["label"]])
            check_same_model(probe.score(probe.image), about.pop("stored"), about["label"])
            for row in _rows(probe, filler, settings):
                rows.append({**case.columns, **about, **row})
                access.progress.advance(1)
        surest = max(rows, key=lambda row: row["mean_probability"] * (row["fill"] == "none"))
        strip = _strip(task, instances[surest["label"]], filler, settings)
    return Measured({"steps": pd.DataFrame(rows)}, strip)


def _chosen(known: xr.Dataset, settings: Context) -> list[dict[str, Any]]:
    """List the instances of the outcomes and the volume that are asked for."""
    low, high = settings.volume or (0.0, inf)
    size = _size(known)
    columns = (
        known["label"].values.tolist(),
        known["outcome"].values.astype(str).tolist(),
        known[size].values.tolist(),
        known["mean_probability"].values.tolist(),
    )
    return [
        {"label": label, "outcome": outcome, size: volume, "stored": probability}
        for label, outcome, volume, probability in zip(*columns, strict=True)
        if outcome in settings.outcomes and low <= volume <= high
    ]


def _rows(probe: Probe, filler: Filler, settings: Context) -> Iterator[dict[str, Any]]:
    """Score a domain on the unchanged image, and on each fill at each distance."""
    distance, influence = probe.distance, probe.influence()
    reach = {
        "reach": float(distance[influence > LEAST_INFLUENCE * influence.max()].max(initial=0)),
        "receptive_field": float(distance[influence > 0].max(initial=0)),
    }
    clean = probe.score(probe.image)
    yield {"fill": "none", "grown": "", "step": nan, **clean.columns, **reach}
    fills = usable_fills(settings.fills, filler.case)
    arms = [(name, "distance", distance) for name in fills]
    if settings.dilation:
        dilated = dilation_distance(probe.domain, int(max(settings.steps)))
        arms.append((fills[0], "dilation", dilated))
    for name, grown, away in arms:
        other = filler.image(name, probe.box, distance)
        for step in settings.steps:
            found = probe.score(np.where(away <= step, probe.image, other))
            yield {"fill": name, "grown": grown, "step": step, **found.columns, **reach}


def _strip(
    task: Task, instance: Instance, filler: Filler, settings: Context
) -> dict[str, np.ndarray]:
    """Cut slices through a domain: the image at some steps, and the probability there (Fig. 13A).

    Empty where the probability is not on the image's grid.
    """
    case, box = task.case, Box.whole(task.case.grid.shape)
    domain = on_map(instance, case, box).mask(case.grid.shape)
    distance = np.asarray(ndimage.distance_transform_edt(~domain, sampling=case.grid.spacing))
    name = "dark" if "dark" in settings.fills else settings.fills[0]  # as black as the paper's
    other = filler.image(name, box, distance)
    steps = [one for one in STRIP_STEPS if one <= max(settings.steps)] or [max(settings.steps)]
    frames = []
    for step in (*steps, inf):
        words = f"up to {step:g} {case.grid.length_unit}" if step < inf else "unfilled"
        frames.append(Frame(words, np.where(distance <= step, case.image, other), domain))
    return strip_of(task, instance, frames, f"Instance {instance.label} on the fill {name}")
