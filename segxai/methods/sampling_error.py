"""The sampling error: how far a map from a sample of rows is from the map of all rows.

Only the sample is known, so the error is estimated from how the map grows with the sample: from
quarters to halves, and from halves to the whole sample. See `sampling_error`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log2, sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.methods.method import Aggregator
from segxai.methods.resume_state import State
from segxai.rows.batch import RowBatch
from segxai.types import Instance

PARTS = 4
BOOKMARK_NAME = "growth"  # its name in a bookmark
FOLDS = 1 + 2 + PARTS
# Maps held beyond those of one fold: states of signed max, finished maps, their sum over copies.
MORE_MAPS = 2 * (FOLDS - 1) + FOLDS + FOLDS


@dataclass(frozen=True)
class Folds:
    """States of the folds over a sample, its halves and its quarters, and the number of rows.

    Quarter k is a part of half k % 2.
    """

    whole: Any
    halves: tuple[Any, ...]
    quarters: tuple[Any, ...]
    count: int


@dataclass(frozen=True)
class SideBySide:
    """An aggregator that also folds the halves and the quarters of the rows.

    Rows are dealt to the parts in turn. Their order is the same for all batch sizes and all noisy
    copies, and neighbouring rows follow each other, so every part is spread over the domain. This
    costs three additions for each row instead of one, and seven states.

    Parameters
    ----------
    aggregator : Aggregator
        Aggregator of the rows.
    report : callable
        Takes the maps of the sample, of its halves and of its quarters, of shape
        (fold, channel, *grid), whenever the fold over an image's rows is finished.
    """

    aggregator: Aggregator
    report: Callable[[Float[Tensor, "fold channel *grid"]], None]

    @property
    def name(self) -> str:
        """Name of the aggregator."""
        return self.aggregator.name

    @property
    def linear(self) -> bool:
        """Whether the aggregator is linear."""
        return self.aggregator.linear

    def start(self, template: Float[Tensor, "channel *grid"]) -> Folds:
        """Return states with no rows, for all folds."""
        fresh = [self.aggregator.start(template) for _ in range(FOLDS)]
        return Folds(fresh[0], tuple(fresh[1:3]), tuple(fresh[3:]), 0)

    def add(self, state: Folds, batch: RowBatch) -> Folds:
        """Add the rows to the whole, and each of them to its half and to its quarter."""
        return Folds(
            self.aggregator.add(state.whole, batch),
            self._dealt(state.halves, batch, state.count),
            self._dealt(state.quarters, batch, state.count),
            state.count + len(batch.values),
        )

    def _dealt(self, states: tuple[Any, ...], batch: RowBatch, turn: int) -> tuple[Any, ...]:
        dealt = list(states)
        for part in range(len(states)):
            first = (part - turn) % len(states)
            if first < len(batch.values):
                mine = batch.take(slice(first, None, len(states)))
                dealt[part] = self.aggregator.add(dealt[part], mine)
        return tuple(dealt)

    def finish(self, state: Folds) -> Float[Tensor, "channel *grid"]:
        """Return the map of the whole sample, after reporting the maps of all folds."""
        states = (state.whole, *state.halves, *state.quarters)
        maps = torch.stack([self.aggregator.finish(one) for one in states])
        self.report(maps)
        return maps[0]


@dataclass(frozen=True)
class SamplingError:
    """The expected error of a map from a sample; None where it has too few rows to tell.

    Parameters
    ----------
    peak_error : float
        By how much the peak's magnitude is too small, relative to the peak of the map.
    map_error : float
        The largest difference anywhere, relative to the peak of the map.
    map_error_l2 : float
        The L2 norm of the difference, relative to the norm of the exact map; at most 1.
    """

    peak_error: float | None = None
    map_error: float | None = None
    map_error_l2: float | None = None


class SamplingErrorTracker:
    """The maps of a sample and of its parts, summed over noisy copies.

    A mean over copies of signed maxima misses what the copies miss on average. They all use the
    same rows, so nothing cancels, and the copies must be summed before parts are compared. The
    sum stands for the mean: errors are relative.

    Attributes
    ----------
    total : Tensor of shape (fold, channel, *grid), or None
        Sum of the maps so far.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def include(self, maps: Float[Tensor, "fold channel *grid"]) -> None:
        """Add the maps of one more noisy copy."""
        self.total = maps if self.total is None else self.total + maps

    def state(self) -> State:
        """Return what a bookmark keeps; empty as long as there are no maps."""
        return {} if self.total is None else {BOOKMARK_NAME: self.total}

    def restore(self, state: State, template: Tensor) -> None:
        """Restore what was kept, if anything was, on the device of a template."""
        if BOOKMARK_NAME in state:
            self.total = state[BOOKMARK_NAME].to(template.device)

    def watch(self, aggregator: Aggregator, instance: Instance) -> Aggregator:
        """Return an aggregator that includes the parts' maps, where the rows are a sample."""
        return aggregator if instance.sampled is None else SideBySide(aggregator, self.include)

    def facts(self, instance: Instance) -> dict[str, float | None]:
        """Estimate what the mean over copies misses; no facts where there is no sample."""
        if self.total is None:
            return {}
        error = sampling_error(self.total, len(instance.row_voxels), len(instance.voxels))
        return asdict(error)


def sampling_error(
    maps: Float[Tensor, "fold channel *grid"], rows: int, voxels: int
) -> SamplingError:
    r"""Estimate what a map from a sample misses, from the maps of its halves and quarters.

    Parameters
    ----------
    maps : Tensor
        Maps of the whole sample, of its two halves and of its four quarters.
    rows, voxels : int
        Size of the sample, and of the domain.

    Notes
    -----
    Write M_m for the map of m rows out of a domain of N, n for the rows of the sample, and
    K = log2(N / n) for the number of times that the sample must double to be complete.

    *Peak.* The expected maximum over m rows grows with m, by less and less for each doubling. The
    mean growth of the last two doublings, from the quarters to the whole, times K, is therefore
    more likely too large than too small.

    *L2.* What one doubling adds to a map hardly correlates with what the one before added: rows
    decide different voxels. So squares add up. Let D(m) = |M_2m - M_m|^2, known for m = n/2 (whole
    and halves) and m = n/4 (halves and quarters), and r their ratio; then

        |M_N - M_n|^2 = D(n/2) (r + r^2 + ... + r^K) = D(n/2) r (r^K - 1) / (r - 1).

    Two cases are exact. Where no row reaches what another decides, r = 2, its largest possible
    value, and the result is the sum over the N - n missing rows. For a mean, r = 1/2, and the
    result is the square of the standard error with its correction for a finite population.

    *Largest difference.* A row that is not in the sample changes the map as the rows outside of a
    half do: by the largest change from a half to the whole, scaled by the growth of the peak.

    All three are 0 for N = n. None is a bound: they are expected values.
    """
    whole, halves, quarters = maps[0], maps[1:3], maps[3:]
    peak = _peak(whole)
    if rows < PARTS or not peak > 0:  # NaN is not, either
        return SamplingError()
    doublings = log2(voxels / rows)
    if doublings == 0:
        return SamplingError(0.0, 0.0, 0.0)
    grown = peak - sum(map(_peak, quarters)) / len(quarters)
    peak_error = max(grown, 0.0) / 2 * doublings / peak
    withheld = max(_peak(whole - half) for half in halves)
    last = sum(_square(whole - half) for half in halves) / 2
    before = sum(_square(halves[k % 2] - one) for k, one in enumerate(quarters)) / PARTS
    square = last * _series(min(last / before, 2.0) if before else 1.0, doublings)
    return SamplingError(
        peak_error,
        withheld / peak * (1 + peak_error),
        sqrt(square / (_square(whole) + square)),
    )


def _series(ratio: float, steps: float) -> float:
    """Sum the geometric series ratio + ratio^2 + ...; the number of terms need not be whole."""
    if abs(ratio - 1) < 1e-6:
        return steps
    return ratio * (ratio**steps - 1) / (ratio - 1)


def _peak(values: Float[Tensor, "channel *grid"]) -> float:
    least, most = torch.aminmax(values)
    return float(torch.maximum(-least, most))


def _square(values: Float[Tensor, "channel *grid"]) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
