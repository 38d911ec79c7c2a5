"""Low-rank rows: windowed rows plus what they leave out, which all rows of an instance share.

An instance normalisation subtracts statistics of the whole window, so an exact row differs from 0
everywhere. Its adjoint is a factor for each channel, which keeps to a box, less two fields for
each channel that do not depend on the row, only their coefficients do (`rules.normalisation`).
Carried to the image, a row v' of an instance is therefore

    D_v' = W_v' + sum_k c_v'k F_k

with W_v' the row that leaves those fields out, and c_v'k known from computing it: the identity is
exact, and holds through any number of such layers. The fields F_k are too many to compute, but
rows of near voxels need almost the same few combinations of them. So the singular vectors of the
coefficients say which sums of rows to compute densely; what such a sum has beyond its windowed
self is a field, and every row is its windowed self plus some of each field. Rows that the
coefficients explain worst are computed densely, too, and measure the error.
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

STEP = 4  # fields that are computed between two looks at the error
CHECKED = 2  # rows that are computed densely at each look
KEPT_BYTES = 2**30  # bytes of windowed rows that are kept, rather than computed twice

Weights = Float[Tensor, "voxel class"]


@dataclass
class ApproximationError:
    """What an approximation turned out to be, over all windows and noisy copies so far.

    Parameters
    ----------
    rank : int
        The largest number of fields.
    error : float
        The largest error in the rows that were computed densely, relative to the row's peak.
    """

    rank: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class LowRank:
    """Rows whose error, relative to their own peak, is at most the tolerance where it is measured.

    Parameters
    ----------
    tolerance : float
        Largest error left, relative to the row's peak.
    batch : int
        Windowed rows computed at once, at most.

    Attributes
    ----------
    measured : ApproximationError
        Filled while rows are computed.
    """

    tolerance: float = 3e-3
    batch: int = 16
    measured: ApproximationError = field(default_factory=ApproximationError)

    def facts(self) -> dict[str, Any]:
        """The largest rank and the largest measured error, relative to a row's peak, so far."""
        return {"rank": self.measured.rank, "row_error": self.measured.error}

    def rows_of(self, one: Pass, voxels: Voxels, weights: Weights) -> Callable[[Members], RowBatch]:
        """The rows of any of these voxels in a window; the work that they share is done at once."""
        if len(voxels) <= STEP + CHECKED:
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
        Largest magnitude of each row.
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
                peaks[member] = row.abs().max().cpu().clamp(min=torch.finfo(row.dtype).tiny)
                if free >= 0:
                    self._kept[member] = RowBatch(row[None], found.start)
        order = range(len(voxels))
        self.peaks = torch.stack([peaks[member] for member in order])
        self.left_out = torch.stack([left_out[member] for member in order]) / self.peaks[:, None]

    def rows(self, members: Members) -> RowBatch:
        """Some of the rows, on the box that they span."""
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
    """The few fields of which every row of a window's voxels has some, beyond its windowed self.

    Attributes
    ----------
    fields : list of Tensor of shape (channel, *inside)
        In the order of their weight.
    amounts : Tensor of shape (voxel, field)
        Orthonormal columns: how much of each field a row has, in units of the row's peak.
    error : float
        The largest error in the rows that were computed densely, relative to the row's peak.
    """

    def __init__(self, one: Pass, windowed: WindowedRows) -> None:
        self.one, self.windowed = one, windowed
        self.amounts = torch.linalg.svd(windowed.left_out, full_matrices=False).U
        self.fields: list[Tensor] = []
        self.error = 0.0
        self._dense: dict[int, Tensor] = {}

    def grow(self, tolerance: float) -> None:
        """Compute fields until the rows that they explain worst are within the tolerance."""
        while len(self.fields) < self.amounts.shape[1]:
            last = min(len(self.fields) + STEP, self.amounts.shape[1])
            self.fields += [self._field(number) for number in range(len(self.fields), last)]
            self._check_worst()
            if self.error <= tolerance:
                return

    def rows(self, members: Members) -> RowBatch:
        """Some of the rows; those that were computed densely as they are."""
        values = self._explained(members)
        for number, member in enumerate(members.tolist()):
            if member in self._dense:
                values[number] = self._dense[member]
        return RowBatch(values, self.one.inside.start)

    def _explained(self, members: Members) -> Float[Tensor, "row channel *inside"]:
        """Rows as their windowed selves and their amounts of the fields."""
        windowed = self.windowed.rows(members)
        amounts = self.amounts[members, : len(self.fields)] * self.windowed.peaks[members, None]
        values = torch.tensordot(amounts.to(windowed.values), torch.stack(self.fields), dims=1)
        values[windowed.box.seen_from(self.one.inside).index] += windowed.values
        return values

    def _field(self, number: int) -> Float[Tensor, "channel *inside"]:
        """What a weighted sum of rows has beyond the same sum of windowed rows."""
        one, windowed = self.one, self.windowed
        weights = windowed.weights * (self.amounts[:, number] / windowed.peaks)[:, None]
        weighted = weights * one.shares(windowed.voxels)
        whole = one.gradient(windowed.voxels, weighted)
        box = Box.around(one.outside.local(windowed.voxels))
        cotangent = one.cotangent(windowed.voxels, weighted)[box.index]
        local = one.carry(cotangent, box, Tape(exact=False))
        whole[local.box.seen_from(one.inside).index] -= local.values[0]
        return whole

    def _check_worst(self) -> None:
        """Compute the rows densely of which the fields explain least, and measure the error."""
        known = self.amounts[:, : len(self.fields)]
        missing = (self.windowed.left_out - known @ (known.T @ self.windowed.left_out)).norm(dim=1)
        missing[list(self._dense)] = -1
        for member in missing.argsort(descending=True)[:CHECKED].tolist():
            voxels, weights = self.windowed.voxels[[member]], self.windowed.weights[[member]]
            self._dense[member] = self.one.gradient(voxels, weights * self.one.shares(voxels))
        members = np.array(list(self._dense))
        found, wanted = self._explained(members), torch.stack(list(self._dense.values()))
        errors = (found - wanted).abs().flatten(1).amax(dim=1).cpu()
        self.error = float((errors / self.windowed.peaks[members]).max())
