"""Synthetic lesions: a clear one moved elsewhere, and made-up ones of graded contrast and size.

The paper moves a lesion to healthy tissue, outside of the head, and there again with a rim of its
own surroundings (section 3.4). Where a place lies relative to windows and strides changes a score,
so that every arm is repeated at many places.
"""

import numpy as np
import pandas as pd
import xarray as xr

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.cutting import strip_of
from segxai.experiments.fills import Filler
from segxai.experiments.frame import Experiment, Measured
from segxai.experiments.probe import Access, healthy_tissue, instances_of, ready
from segxai.experiments.synthetic.doses import doses
from segxai.experiments.synthetic.moved import Lesion, move
from segxai.experiments.synthetic.places import target_of
from segxai.experiments.synthetic.report import report
from segxai.experiments.synthetic.settings import Synthetic
from segxai.store.hdf5 import open_result
from segxai.store.schema import group

SIZES_MM3 = (10.0, 30.0, 93.0, 300.0)
SHARES_OF_MEDIAN = (0.25, 0.5, 1.0, 2.0)  # of the median area, in pictures


def synthetic(settings: Synthetic, access: Access) -> Experiment:
    """Build the experiment."""

    def measure(case: CaseFile) -> Measured:
        with open_result(case.path) as tree:
            return _measure(tree, case, settings, access)

    return Experiment(name="synthetic", settings=settings, measure=measure, report=report)


def _measure(tree: xr.DataTree, case: CaseFile, settings: Synthetic, access: Access) -> Measured:
    known = group(tree, "instances").load()
    label = _label(known, settings)
    if label is None:
        access.progress.say(f"{case.case}: no detected lesion to move")
        return Measured({"moved": pd.DataFrame(), "doses": pd.DataFrame()})
    task = access.task(tree)
    if task.case.domains_on_source:
        raise SegxaiError(
            f"{case.path.name}: its instances lie on another grid than the network's input, where "
            "nothing can be moved voxel by voxel; use a model without a readout"
        )
    instances = instances_of(task, tree)
    filler = Filler(task.case, healthy_tissue(task, tree, instances))
    stored = float(known["mean_probability"].sel(label=label))
    lesion = Lesion.of(instances[label], stored, filler)
    target = target_of(task.case, filler.healthy, settings.where)
    sizes = settings.sizes or _sizes(known)
    graded = settings.places * len(sizes) * len(settings.contrasts)
    access.progress.begin(f"synthetic {case.case}", settings.places * 6 + graded)
    with ready(task):
        moved, frames = move(task, lesion, target, filler, settings, access)
        made_up = list(doses(task, lesion, target, sizes, settings, access))
        strip = strip_of(task, lesion.instance, frames, f"Lesion {label} moved")
    about = {**case.columns, "label": label, "unit_of_size": task.case.grid.volume_unit}
    rows = {"moved": moved, "doses": made_up}
    tables = {name: pd.DataFrame([{**about, **row} for row in rows[name]]) for name in rows}
    return Measured(tables, strip)


def _label(known: xr.Dataset, settings: Synthetic) -> int | None:
    """Choose the lesion: the surest of the larger half of those that are detected."""
    table = known[["outcome", "voxels", "mean_probability"]].to_dataframe()
    table = table[table["outcome"].astype(str).isin(("TP", ""))]
    if settings.label is not None:
        return settings.label if settings.label in table.index else None
    large = table[table["voxels"] >= table["voxels"].median()]
    return int(large["mean_probability"].idxmax()) if len(large) else None


def _sizes(known: xr.Dataset) -> tuple[float, ...]:
    if "volume_mm3" in known:
        return SIZES_MM3
    median = float(np.median(known["area_px"].values))
    return tuple(share * median for share in SHARES_OF_MEDIAN)
