"""Engines: segxai's rows and their fold, through its public call, and the errors of rows."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from segxai.methods.aggregators import SignedMax
from segxai.rows.batch import RowBatch
from segxai.rows.engines import Engine, find_engine
from segxai.rows.jacobian import rows
from workbench.networks import Setting

PROBES = 16
Make = Callable[[], Engine]


def chosen(
    setting: Setting,
    voxels: Int[ndarray, "voxel axis"],
    engine: str,
    batch: int | None = None,
    tolerance: float | None = None,
) -> Make:
    """Return a maker of fresh engines of this name, one for each map; segxai chooses the batch.

    The choice takes one forward pass and one row, once per instance and not once per noisy copy.
    """
    suited = find_engine(setting.predictor, setting.image, voxels, engine=engine, batch=batch)
    return partial(suited.make, tolerance)


def batches(
    setting: Setting, voxels: Int[ndarray, "voxel axis"], engine: Make
) -> Iterable[RowBatch]:
    """Compute the rows of class 1, batch by batch."""
    return rows(setting.predictor, setting.image, voxels, class_index=1, engine=engine())


def signed_max(
    setting: Setting, voxels: Int[ndarray, "voxel axis"], engine: Make
) -> Float[Tensor, "channel *grid"]:
    """Compute the map that the published loop makes."""
    fold = SignedMax()
    state = fold.start(setting.image[0])
    for batch in batches(setting, voxels, engine):
        state = fold.add(state, batch)
    return fold.finish(state)


def largest_error(
    wanted: Float[Tensor, "row channel *grid"], found: Iterable[RowBatch], expected: int
) -> float:
    """Compute the largest difference between wanted rows and their nearest found rows.

    It is relative to the peak of the wanted rows. Found rows come in any order, and there may be
    more of them than are wanted; random projections tell which is which. A wrong partner can only
    make the error larger.

    Parameters
    ----------
    expected : int
        How many rows must be found.
    """
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(PROBES, *wanted.shape[1:], generator=generator).to(wanted)
    marks = wanted.flatten(1) @ probes.flatten(1).T
    nearest = marks.new_full((len(wanted),), torch.inf)
    errors = nearest.clone()
    count = 0
    for batch in found:
        count += len(batch.values)
        seen = batch.values.flatten(1) @ probes[batch.box.index].flatten(1).T
        distance, row = torch.cdist(marks, seen, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        for k in (distance < nearest).nonzero()[:, 0].tolist():
            errors[k] = difference(wanted[k], batch, int(row[k]))
        nearest = torch.minimum(nearest, distance)
    if count != expected:
        raise SystemExit(f"{count} rows were found for {expected} voxels")
    return float(errors.max() / wanted.abs().max())


def difference(wanted: Float[Tensor, "channel *grid"], batch: RowBatch, row: int) -> float:
    """Compute the largest difference to one row of a batch, which is 0 outside its box."""
    left = wanted.clone()
    left[batch.box.index] -= batch.values[row]
    return float(left.abs().max())
