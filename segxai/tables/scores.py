"""Scores of a model against references: Dice and lesion-wise rates, each of its own side.

TP and FP are predicted components, found ones and FN those of the reference, so that a rate says
whose it is: the true positive rate and the false negative rate are of the reference, the false
discovery rate is of the prediction.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool

from segxai.matching import ANY, ONE_TO_ONE, Voxels, match, overlaps
from segxai.tables.domains import Row, identity_of
from segxai.tables.scan import Scan

SIZES_MM3 = (20.0, 100.0, 500.0)
LOADS_MM3 = (5_000.0, 15_000.0)
NORMALISED_LOAD = 0.001
COUNTS = (
    "predicted",
    "predicted_tp",
    "predicted_fp",
    "reference",
    "reference_found",
    "reference_fn",
)
IDENTITY = ("case", "patient", "session", "model", "weights")
COLUMNS = (
    "scope", *IDENTITY, "match", "subset_by", "subset", "scans", "dice", "ndsc", *COUNTS,
    "tpr_of_reference", "fnr_of_reference", "fdr_of_predicted", "f1",
)  # fmt: skip


def scores_of(trees: Iterable[xr.DataTree]) -> pd.DataFrame:
    """Score the predictions in results: by case, and of all cases together.

    Returns
    -------
    DataFrame
        The columns are listed in `docs/reference/table.md`. Results without a reference, or without
        a class at every voxel, have no row.
    """
    rows = [row for tree in trees for row in _rows_of_case(tree)]
    cases = pd.DataFrame(rows, columns=[*COLUMNS, "lesion_load_mm3"])
    table = pd.concat([cases, *_of_cohort(cases)], ignore_index=True) if rows else cases
    return _with_rates(table)[list(COLUMNS)]


def _rows_of_case(tree: xr.DataTree) -> Iterator[Row]:
    scan = Scan.of(tree)
    if scan.reference is None or scan.predicted is None:
        return
    predicted = [one for one in scan.found if scan.is_large(one)]
    drawn = [one for one in scan.drawn if scan.is_large(one)]
    too_small = scan.drawn[len(drawn) :]
    found, expected = (_mask(one, scan.grid.shape) for one in (predicted, drawn))
    load = scan.load[1] if len(scan.grid.shape) == 3 else float("nan")  # pictures have no mm3
    identity = {"scope": "case", **identity_of(tree), "scans": 1, "lesion_load_mm3": load}
    for rule in dict.fromkeys((ANY, ONE_TO_ONE, scan.criteria.match)):
        matching = match(predicted, drawn, rule, too_small=too_small)
        for by, subset, ours, theirs in _subsets(scan, predicted, drawn):
            hits, covered = matching.predicted[ours], matching.reference[theirs]
            row = {**identity, "match": rule, "subset_by": by, "subset": subset}
            row |= _counts(hits, covered)
            if by == "all":
                row["dice"] = dice(found, expected)
                row["ndsc"] = dice(found, expected, normalised=True)
            yield row


def dice(
    predicted: Bool[np.ndarray, "*grid"],
    reference: Bool[np.ndarray, "*grid"],
    *,
    normalised: bool = False,
) -> float:
    """Compute the Dice score of two masks; NaN if both are empty.

    Parameters
    ----------
    normalised : bool
        Weight false positives by the odds of the lesion load over those of a load of 0.001, both
        over the grid of the masks, so that scores do not grow with the load. A grid that was
        cropped to the brain has a larger load, and a lower score.

    References
    ----------
    Raina et al., ISBI 2023, doi 10.1109/ISBI53787.2023.10230755, Eq. 4.
    """
    load, weight = float(reference.mean()), 1.0
    if normalised:
        odds = NORMALISED_LOAD / (1 - NORMALISED_LOAD)
        weight = load / (1 - load) / odds if load < 1 else float("inf")
    both = int((predicted & reference).sum())
    extra, missed = int((predicted & ~reference).sum()), int((reference & ~predicted).sum())
    whole = 2 * both + (weight * extra if extra else 0.0) + missed
    return 2 * both / whole if whole else float("nan")


Subset = tuple[str, str, Bool[np.ndarray, " predicted"], Bool[np.ndarray, " reference"]]


def _subsets(scan: Scan, predicted: Sequence[Voxels], drawn: Sequence[Voxels]) -> Iterator[Subset]:
    """Yield the subsets of both sides: all, without the largest drawn, by size, by region."""
    sides = (predicted, drawn)
    yield "all", "all", np.ones(len(predicted), dtype=bool), np.ones(len(drawn), dtype=bool)
    if drawn:
        apart = overlaps(predicted, drawn[:1])[:, 0] == 0
        yield "largest", "without the largest", apart, np.arange(len(drawn)) > 0
    if len(scan.grid.shape) == 3:
        ours, theirs = (np.digitize([_volume(scan, p) for p in one], SIZES_MM3) for one in sides)
        for place, interval in enumerate(_names(SIZES_MM3)):
            yield "size", interval, ours == place, theirs == place
    regions = [np.array([scan.region_of(p) for p in one], dtype=str) for one in sides]
    for region in sorted(set(np.concatenate(regions).tolist()) - {""}):
        yield "region", str(region), regions[0] == region, regions[1] == region


def _volume(scan: Scan, voxels: Voxels) -> float:
    return len(voxels) * scan.grid.voxel_volume_mm3


def _names(limits: Sequence[float]) -> list[str]:
    """Name the intervals between limits."""
    between = [f"{low:g} to {high:g} mm3" for low, high in pairwise(limits)]
    return [f"under {limits[0]:g} mm3", *between, f"{limits[-1]:g} mm3 and more"]


def _counts(
    hits: Bool[np.ndarray, " predicted"], covered: Bool[np.ndarray, " reference"]
) -> dict[str, int]:
    numbers = (len(hits), hits.sum(), (~hits).sum(), len(covered), covered.sum(), (~covered).sum())
    return dict(zip(COUNTS, map(int, numbers), strict=True))


def _of_cohort(cases: pd.DataFrame) -> list[pd.DataFrame]:
    """Add up the counts of all cases, and average their Dice: all together, and by load."""
    whole = cases[cases["subset_by"] == "all"]
    known = whole[whole["lesion_load_mm3"].notna()]
    number = np.digitize(known["lesion_load_mm3"].astype(float), LOADS_MM3)
    by_load = known.assign(subset_by="load", subset=np.array(_names(LOADS_MM3))[number])
    keys = ["model", "weights", "match", "subset_by", "subset"]
    several = pd.concat([cases, by_load])
    summed = several.groupby(keys, as_index=False, sort=False)[["scans", *COUNTS]].sum()
    means = several.groupby(keys, as_index=False, sort=False)[["dice", "ndsc"]].mean()
    words = dict.fromkeys(("case", "patient", "session"), "")
    return [summed.merge(means, on=keys).assign(scope="cohort", **words)]


def _with_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Add the rates; NaN of nothing."""
    counts: Any = table[list(COUNTS)].astype(float).replace(0, np.nan)
    whole = table[list(COUNTS)].astype(float)
    recall = whole["reference_found"] / counts["reference"]
    precision = whole["predicted_tp"] / counts["predicted"]
    total = (precision + recall).replace(0, np.inf)
    return table.assign(
        tpr_of_reference=recall,
        fnr_of_reference=1 - recall,
        fdr_of_predicted=1 - precision,
        f1=2 * precision * recall / total,
    )


def _mask(parts: Sequence[Voxels], shape: tuple[int, ...]) -> Bool[np.ndarray, "*grid"]:
    mask = np.zeros(shape, dtype=bool)
    for voxels in parts:
        mask[tuple(voxels.T)] = True
    return mask
