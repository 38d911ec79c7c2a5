"""Low-rank rows: windowed rows plus the fields they leave out, which an instance's rows share.

An instance normalisation subtracts statistics of the whole window, so an exact row differs from 0
everywhere. Its adjoint is a factor for each channel, which keeps to a box, minus two fields for
each channel. The fields do not depend on the row, only their coefficients do
(`rules.normalisation`). Carried to the image, a row v' of an instance is therefore

    D_v' = W_v' + sum_k c_v'k F_k

where W_v' is the row that leaves those fields out, and c_v'k is known from computing it. The
identity is exact, and holds through any number of such layers. The fields F_k are too many to
compute, but rows of nearby voxels need almost the same few combinations of them. The singular
vectors of the coefficients therefore say which sums of rows to compute densely. The difference
between such a sum and the same sum of windowed rows is a field, and every row is its windowed row
plus some of each field. A few rows are held out: they are drawn at random and computed densely, to
estimate the error of all others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box
from segxai.rows.batch import RowBatch
from segxai.rows.cotangent import Tape
from segxai.rows.window_pass import Members, Pass, Voxels, dense_rows, in_blocks, windowed_rows

STEP = 4  # fields that are computed between two checks of the error
HELD_OUT = 5  # rows of a window that are computed densely, to estimate the error of the others
# What the estimate is multiplied by: it then covers the largest error of all rows in 95 % or more
# of small random and trained networks (`benchmarks/row_errors.py`).
MARGIN = 2.0
LEAST_PEAK = 1e-3  # of the largest peak: rows are divided by their peaks, and some rows are 0
LEAST_LEFT_OUT = 0.01  # of what another row leaves out: below, rounding would decide the estimate
KEPT_BYTES = 2**30  # bytes of windowed rows that are kept, rather than computed twice

Weights = Float[Tensor, "voxel class"]


@dataclass
class ApproximationError:
    """The rank and the estimated error of an approximation, over all windows and copies so far.

    Parameters
    ----------
    rank : int
        The largest number of fields.
    error : float
        The largest error of any row, relative to the row's peak, as estimated from held-out rows.
    """

    rank: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class LowRank:
    """The engine for rows whose error, as estimated from held-out rows, is within the tolerance.

    Parameters
    ----------
    tolerance : float
        The largest error to accept, relative to the row's peak.
    batch : int
        The largest number of windowed rows computed at once.

    Attributes
    ----------
    measured : ApproximationError
        Filled in while rows are computed.
    """

    tolerance: float = 3e-3
    batch: int = 16
    measured: ApproximationError = field(default_factory=ApproximationError)

    def facts(self) -> dict[str, Any]:
        """Return the largest rank and the largest error so far, relative to a row's peak."""
        return {"rank": self.measured.rank, "row_error": self.measured.error}

    def rows_of(self, one: Pass, voxels: Voxels, weights: Weights) -> Callable[[Members], RowBatch]:
        """Do the work that these voxels share, and return a function that computes rows."""
        if len(voxels) <= STEP + HELD_OUT:
            return lambda members: dense_rows(one, voxels[members], weights[members])
        windowed = WindowedRows(one, voxels, weights, self.batch)
        if not windowed.left_out.any():
            return windowed.rows
        shared = SharedFields(one, windowed)
        shared.grow(self.tolerance)
        self.measured.rank = max(self.measured.rank, len(shared.fields))
        self.measured.error = max(self.measured.error, shared.error)
        return shared.rows


class WindowedRows:
    """The windowed rows of a window's voxels.

    Attributes
    ----------
    left_out : Tensor of shape (voxel, coefficient)
        Coefficients of the fields that the rows leave out, relative to the row's peak.
    peaks : Tensor of shape (voxel)
        Largest magnitude of each row, and at least a thousandth of that of all.
    """

    def __init__(self, one: Pass, voxels: Voxels, weights: Weights, batch: int) -> None:
        self.one, self.voxels, self.weights = one, voxels, weights
        self._kept: dict[int, RowBatch] = {}
        left_out: dict[int, Tensor] = {}
        peaks: dict[int, Tensor] = {}
        free = KEPT_BYTES
        for members in in_blocks(voxels, one.outside, batch):
            tape = Tape(exact=False)
            found = windowed_rows(one, voxels[members], weights[members], tape)
            parts = tape.left_out or [torch.zeros(len(members), 1)]
            left_out.update(zip(members.tolist(), torch.cat(parts, dim=1).cpu(), strict=True))
            free -= found.values.nbytes
            for member, row in zip(members.tolist(), found.values, strict=True):
                peaks[member] = row.abs().max().cpu()
                if free >= 0:
                    self._kept[member] = RowBatch(row[None], found.start)
        order = range(len(voxels))
        largest = float(max(peaks.values())) or 1.0
        self.peaks = torch.stack([peaks[member] for member in order]).clamp(LEAST_PEAK * largest)
        self.left_out = torch.stack([left_out[member] for member in order]) / self.peaks[:, None]

    def rows(self, members: Members) -> RowBatch:
        """Return some of the rows, on the box that they span."""
        if not all(int(member) in self._kept for member in members):
            voxels, weights = self.voxels[members], self.weights[members]
            return windowed_rows(self.one, voxels, weights, Tape(exact=False))
        kept = [self._kept[int(member)] for member in members]
        box = Box.spanning(row.box for row in kept)
        values = kept[0].values.new_zeros(len(kept), kept[0].values.shape[1], *box.size)
        for number, row in enumerate(kept):
            values[number][row.box.seen_from(box).index] = row.values[0]
        return RowBatch(values, box.start)


class SharedFields:
    """The few fields that, with an amount for each row, complete the windowed rows of a window.

    Attributes
    ----------
    fields : list of Tensor of shape (channel, *inside)
        In decreasing order of weight.
    amounts : Tensor of shape (voxel, field)
        How much of each field a row has, in units of the row's peak. Columns are orthonormal.
    error : float
        The largest error of any row, relative to the row's peak, as estimated from held-out rows.
    """

    def __init__(self, one: Pass, windowed: WindowedRows) -> None:
        self.one, self.windowed = one, windowed
        self.amounts = torch.linalg.svd(windowed.left_out, full_matrices=False).U
        self.fields: list[Tensor] = []
        self.error = 0.0
        # The same for each noisy copy: a draw must not depend on how a run was divided.
        # Rows that leave nothing out, as those of 0 behind a dead ReLU, would tell nothing.
        telling = np.flatnonzero(windowed.left_out.any(dim=1))
        count = min(HELD_OUT, len(telling))
        drawn = np.random.default_rng(0).choice(telling, count, replace=False)
        self._held_out = {member: self._dense(member) for member in drawn.tolist()}

    def grow(self, tolerance: float) -> None:
        """Compute fields until the estimated error is within the tolerance."""
        while len(self.fields) < self.amounts.shape[1]:
            last = min(len(self.fields) + STEP, self.amounts.shape[1])
            self.fields += [self._field(number) for number in range(len(self.fields), last)]
            self.error = self._estimate()
            if self.error <= tolerance:
                return

    def rows(self, members: Members) -> RowBatch:
        """Return some of the rows; those that are held out are returned as they are."""
        values = self._explained(members)
        for number, member in enumerate(members.tolist()):
            if member in self._held_out:
                values[number] = self._held_out[member]
        return RowBatch(values, self.one.inside.start)

    def _explained(self, members: Members) -> Float[Tensor, "row channel *inside"]:
        """Approximate rows by their windowed rows plus their amounts of the fields."""
        windowed = self.windowed.rows(members)
        amounts = self.amounts[members, : len(self.fields)] * self.windowed.peaks[members, None]
        values = torch.tensordot(amounts.to(windowed.values), torch.stack(self.fields), dims=1)
        values[windowed.box.seen_from(self.one.inside).index] += windowed.values
        return values

    def _field(self, number: int) -> Float[Tensor, "channel *inside"]:
        """Compute a field: a weighted sum of dense rows minus the same sum of windowed rows."""
        one, windowed = self.one, self.windowed
        weights = windowed.weights * (self.amounts[:, number] / windowed.peaks)[:, None]
        weighted = weights * one.shares(windowed.voxels)
        whole = one.gradient(windowed.voxels, weighted)
        local = one.carry(windowed.voxels, weighted, Tape(exact=False), summed=True)
        whole[local.box.seen_from(one.inside).index] -= local.values[0]
        return whole

    def _dense(self, member: int) -> Float[Tensor, "channel *inside"]:
        voxels, weights = self.windowed.voxels[[member]], self.windowed.weights[[member]]
        return self.one.gradient(voxels, weights * self.one.shares(voxels))

    def _estimate(self) -> float:
        """Estimate the largest error of a row, from held-out rows and what each row leaves out.

        A row's error goes with the norm of the coefficients that the fields do not explain. The
        held-out rows show the factor; the norm is known for every row.
        """
        known = self.amounts[:, : len(self.fields)]
        missing = (self.windowed.left_out - known @ (known.T @ self.windowed.left_out)).norm(dim=1)
        rounding = torch.finfo(missing.dtype).eps * self.windowed.left_out.norm(dim=1).max()
        missing = missing.clamp(min=max(LEAST_LEFT_OUT * missing.max(), rounding))
        members = np.array(list(self._held_out))
        wanted = torch.stack(list(self._held_out.values()))
        peaks = wanted.abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(wanted.dtype).tiny)
        errors = (self._explained(members) - wanted).abs().flatten(1).amax(dim=1) / peaks
        return MARGIN * float((errors.cpu() / missing[members]).max() * missing.max())
