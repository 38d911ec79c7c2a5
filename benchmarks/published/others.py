"""Maps on the lesion that they explain and on the nearest other one.

Written to a table from result files, from which two claims are read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import KDTree

from segxai.store.hdf5 import open_result
from segxai.store.reader import maps, provenance_of_run, run_names
from segxai.store.schema import attribution_of, domain_of, grid_of, group
from segxai.tables.domains import identity_of
from tables import Tables
from verdicts import Observation, Observations, holds

CLOSE_MM = 10
LESIONS = ("TP", "FP", "FN")  # no controls
COLUMNS = (
    "case", "patient", "session", "model", "weights", "run", "method", "aggregator", "score",
    "label", "nearest", "distance_mm", "channel", "inside", "on_nearest",
)  # fmt: skip


def write_others(results: Path) -> None:
    """Write `others/others.csv`, of all results in a folder, unless it is there already."""
    paths = sorted(results.glob("*.h5"))
    table = results / "others" / "others.csv"
    if table.is_file() and table.stat().st_mtime > max(path.stat().st_mtime for path in paths):
        return
    rows = []
    for path in paths:
        with open_result(path) as tree:
            rows += list(_rows(tree))
    table.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(table, index=False)


def _rows(tree: xr.DataTree) -> Iterator[dict[str, Any]]:
    """Compare every map of a TP on its own domain and on the nearest other lesion."""
    known = group(tree, "instances")
    outcomes = dict(zip(known["label"].values.tolist(), known["outcome"].values, strict=True))
    lesions = [label for label, outcome in outcomes.items() if outcome in LESIONS]
    labels = group(tree, "segmentation")["labels"].values
    labels = np.where(np.isin(labels, lesions), labels, 0)
    grid = grid_of(tree)
    for run in run_names(tree):
        how = provenance_of_run(tree, run)
        words = {key: how.get(key) or "" for key in ("method", "aggregator", "score")}
        for label, stored in maps(tree, run).items():
            own = domain_of(stored, grid.shape)
            others = np.argwhere((labels > 0) & (labels != label) & ~own)
            if outcomes.get(label) != "TP" or not len(others):
                continue
            away, _ = KDTree(grid.to_mm(np.argwhere(own))).query(grid.to_mm(others))
            nearest = int(labels[tuple(others[np.argmin(away)])])
            about = {**identity_of(tree), "run": run, **words, "label": label, "nearest": nearest}
            size = np.abs(_whole(stored, grid.shape))
            names = stored["channel"].values.tolist() if "channel" in stored else ["heat"]
            for name, one in zip(names, size.reshape(len(names), *grid.shape), strict=True):
                means = {"inside": one[own].mean(), "on_nearest": one[labels == nearest].mean()}
                yield {**about, "distance_mm": away.min(), "channel": name, **means}


def _whole(stored: xr.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Return a map on the whole grid, 0 outside of its box."""
    attribution = attribution_of(stored)
    values = np.zeros((*attribution.values.shape[: -len(shape)], *shape))
    values[attribution.box.index] = attribution.values
    return values


def near_zero(tables: Tables) -> Observations:
    """Ask whether maps of gradients are small on the nearest other lesion."""
    own = tables.groups("others", "aggregator", "score", method="gradient")
    for setting, rows in own:
        ratio = (rows["on_nearest"] / rows["inside"]).groupby(rows["channel"])
        n, middle = int(ratio.count().min()), ratio.median()
        text = ", ".join(f"{name} {value:.3f}" for name, value in middle.items())
        yield Observation(
            setting, f"on the nearest / inside: {text}", n, holds(max(middle) < 0.1, n)
        )


def apart(tables: Tables) -> Observations:
    """Ask whether heat lies on the lesion that is explained, and not on one close to it."""
    for setting, rows in tables.groups("others", method="gradcam++"):
        close = rows[rows["distance_mm"] <= CLOSE_MM]
        good = int((close["inside"] >= 2 * close["on_nearest"]).sum())
        n = len(close)
        text = f"twice the heat of the other in {good} of {n}"
        yield Observation(setting, text, n, holds(n and good / n >= 0.9, n))
