"""Modalities: what a map says in each channel, inside a lesion, at its border and around it.

The paper looks at signs inside and around (section 3.2). Bands are thin near the border: a sign
that changes within 2 mm is lost in a band of 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.frame import Experiment, Measured
from segxai.experiments.modalities.report import report
from segxai.experiments.modalities.shapley import Replacement, channel_values, check_channels
from segxai.experiments.probe import Access
from segxai.geometry import Box, Grid
from segxai.run.restore import Places
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps, provenance_of_run, run_names
from segxai.store.schema import attribution_of, domain_grid_of, grid_of, group
from segxai.tables.saliency import domain_on

EDGES = (*(float(edge) for edge in range(11)), 15.0, 20.0, 30.0)  # of the shells, in mm
INSIDE, BORDER = "inside", "border"


@dataclass(frozen=True, kw_only=True)
class Modalities:
    """Settings of the experiment.

    Parameters
    ----------
    cut : float
        Values of a smaller magnitude are left out of medians, as the paper does with 0.1; they are
        never left out of sums, nor of what is tested.
    shapley : bool
        Also compute the Shapley values of the channels, for which the model is run.
    replacement : Replacement
        What stands in for a channel, and where.
    """

    cut: float = 0.0
    shapley: bool = True
    replacement: Replacement = field(default_factory=Replacement)

    def __post_init__(self) -> None:
        if not self.cut >= 0:
            raise SegxaiError(f"a cut of {self.cut:g}: give 0 or more")


def modalities(settings: Modalities, cases: Sequence[CaseFile], access: Access) -> Experiment:
    """Build the experiment on some cases.

    Raises
    ------
    SegxaiError
        If Shapley values are asked for, and a case has more than eight channels.
    """
    if settings.shapley:
        check_channels(cases)

    def measure(case: CaseFile) -> Measured:
        with open_result(case.path) as tree:
            regions = pd.DataFrame({**case.columns, **row} for row in _rows(tree, settings.cut))
            labels = regions["label"].unique().tolist() if settings.shapley and len(regions) else []
            values, reason = _shapley(tree, case, labels, settings.replacement, access)
        left_out = pd.DataFrame([{"case": case.case, "reason": reason}] if reason else [])
        tables = {"regions": regions, "shapley": values, "left_out": left_out}
        return Measured(tables, is_complete=not reason)

    return Experiment(
        name="modalities",
        settings=settings,
        measure=measure,
        report=partial(report, cut=settings.cut, replaced=settings.replacement.words),
    )


def _shapley(
    tree: xr.DataTree,
    case: CaseFile,
    labels: Sequence[int],
    replacement: Replacement,
    access: Access,
) -> tuple[pd.DataFrame, str]:
    """Compute Shapley values, and return them with the reason if there are none.

    There are none if the model of a result cannot be used. That is an error if the user named it.
    """
    try:
        rows = list(channel_values(tree, case, labels, replacement, access)) if labels else []
    except SegxaiError as error:
        if access.places != Places():
            raise
        return pd.DataFrame(), str(error)
    return pd.DataFrame({**case.columns, **row} for row in rows), ""


def _rows(tree: xr.DataTree, cut: float) -> Iterator[dict[str, Any]]:
    """Summarise every map with channels in each region and channel."""
    known = group(tree, "instances").load()
    outcome = dict(
        zip(known["label"].values.tolist(), known["outcome"].values.astype(str), strict=True)
    )
    grid, domains = grid_of(tree), domain_grid_of(tree)
    for run in run_names(tree):
        how = provenance_of_run(tree, run)
        words = {key: how.get(key) or "" for key in ("method", "aggregator", "score")}
        for label, stored in maps(tree, run).items():
            if label and "channel" in stored["map"].dims:
                about = {"run": run, **words, "label": label, "outcome": outcome.get(label, "")}
                for row in _of_map(stored, grid, domains, cut):
                    yield {**about, "unit": str(stored["map"].attrs["units"]), **row}


def _of_map(stored: xr.Dataset, grid: Grid, domains: Grid, cut: float) -> Iterator[dict[str, Any]]:
    """Summarise one map: its box is grown by the widest shell, as it is 0 outside."""
    domain = domain_on(Box.whole(grid.shape), stored, grid, domains)
    attribution = attribution_of(stored)
    box = Box.spanning([Box.around(domain).grown(EDGES[-1], grid), attribution.box])
    mask = np.zeros(box.size, dtype=bool)
    mask[tuple(box.local(domain).T)] = True
    regions = regions_of(mask, grid.spacing)
    values = np.zeros((len(stored["channel"]), *box.size))
    values[attribution.box.seen_from(box).index] = attribution.values
    for channel, one in zip(stored["channel"].values.tolist(), values, strict=True):
        for name, where in regions:
            yield {"channel": channel, "region": name, **summary(one[where], cut)}


def regions_of(
    domain: Bool[np.ndarray, "*box"], spacing: Sequence[float]
) -> list[tuple[str, Bool[np.ndarray, "*box"]]]:
    """Cut a box into the inside of a domain, its border, and shells around it.

    The border are the voxels of the domain with a neighbour outside of it that shares a face (in
    2D an edge). A shell "1-2" are voxels more than 1 mm and up to 2 mm away; the last, "over 30",
    is all that is farther.
    """
    faces = ndimage.generate_binary_structure(domain.ndim, 1)
    inner = ndimage.binary_erosion(domain, faces)
    away = np.asarray(ndimage.distance_transform_edt(~domain, sampling=spacing))
    found = [(INSIDE, np.asarray(inner)), (BORDER, domain & ~inner)]
    for low, high in pairwise((*EDGES, inf)):
        name = f"{low:g}-{high:g}" if high < inf else f"over {low:g}"
        found.append((name, (away > low) & (away <= high)))
    return found


def summary(values: Float[np.ndarray, " voxel"], cut: float) -> dict[str, float]:
    """Summarise the values of a region: sums of either sign, extremes, and medians above a cut."""
    positive, negative = values[values > 0], values[values < 0]

    def median(some: Float[np.ndarray, " some"]) -> float:
        kept = some[np.abs(some) >= cut]
        return float(np.median(kept)) if len(kept) else float("nan")

    return {
        "voxels": len(values),
        "positive_sum": float(positive.sum()),
        "negative_sum": float(negative.sum()),
        "peak": float(values.max(initial=0)),
        "trough": float(values.min(initial=0)),
        "median_positive": median(positive),
        "median_negative": median(negative),
    }
