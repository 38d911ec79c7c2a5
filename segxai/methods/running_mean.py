"""Sums of the maps of noisy copies: their mean, and how well the copies determine it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan

import torch
from torch import Tensor

from segxai.methods.resume_state import State

Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Sums:
    """Sums of the maps of noisy copies, in float64, with one tensor for each input.

    Parameters
    ----------
    copies : int
        Number of copies.
    total : tuple of Tensor
        Sum of their maps.
    squares : tuple of Tensor
        Sum of the squares of independent maps: those of copies, or the means of antithetic pairs.
    first : tuple of Tensor
        The map of a pair's first copy, until the second one is added.
    antithetic : bool
        Whether copies come in pairs.
    """

    copies: int = 0
    total: Parts = ()
    squares: Parts = ()
    first: Parts = ()
    antithetic: bool = False

    @property
    def independent(self) -> int:
        """Number of independent maps."""
        return self.copies // 2 if self.antithetic else self.copies

    def add(self, maps: Sequence[Tensor]) -> "Sums":
        """Add one copy to the sums; the tensors are changed in place."""
        maps = tuple(one.double() for one in maps)
        total = self.total or tuple(map(torch.zeros_like, maps))
        squares = self.squares or tuple(map(torch.zeros_like, maps))
        for one, new in zip(total, maps, strict=True):
            one += new
        if self.antithetic and not self.first:
            return replace(self, copies=self.copies + 1, total=total, squares=squares, first=maps)
        if self.antithetic:
            maps = tuple((one + two) / 2 for one, two in zip(self.first, maps, strict=True))
        for one, new in zip(squares, maps, strict=True):
            one.addcmul_(new, new)  # without a tensor in between
        return replace(self, copies=self.copies + 1, total=total, squares=squares, first=())

    def of_fold(self, fold: int) -> "Sums":
        """Take the sums of one of several aggregators, whose maps lie along the second axis."""
        total, squares, first = (
            tuple(one[:, fold] for one in maps) for maps in (self.total, self.squares, self.first)
        )
        return replace(self, total=total, squares=squares, first=first)

    def mean(self) -> Parts:
        """Compute the mean of the maps."""
        return tuple(one / self.copies for one in self.total)

    def mean_of_squares(self) -> Parts:
        """Compute the mean of the squares of the independent maps."""
        return tuple(one / self.independent for one in self.squares)

    def standard_error(self) -> Parts:
        """Compute the standard error of the mean, over independent maps; NaN for a single one."""
        degrees = self.independent - 1
        if degrees < 1:
            return tuple(torch.full_like(one, nan) for one in self.total)
        return tuple(
            ((square - one**2).clamp(min=0) / degrees).sqrt()
            for one, square in zip(self.mean(), self.mean_of_squares(), strict=True)
        )

    def error_of_peak(self) -> float:
        """Compute the largest standard error of any voxel and channel, divided by the map's peak.

        The peak is the largest magnitude of the mean, over all voxels and channels. The error is 0
        where nothing varies, and NaN where a map has NaN or where only one map is independent.
        """
        largest, peak = _largest(self.standard_error()), _largest(self.mean())
        if largest == 0:
            return 0.0
        return inf if peak == 0 else largest / peak

    def state(self) -> State:
        """Return the sums as a bookmark keeps them."""
        named = {"total": self.total, "squares": self.squares, "first": self.first}
        tensors = {f"{name}.{n}": one for name, maps in named.items() for n, one in enumerate(maps)}
        return {"copies": torch.tensor(self.copies), **tensors}

    def restored(self, state: State, device: torch.device) -> "Sums":
        """Restore the sums that were kept; return these sums if none were."""
        if "copies" not in state:
            return self

        def maps(name: str) -> Parts:
            count = sum(key.startswith(f"{name}.") for key in state)
            return tuple(state[f"{name}.{n}"].to(device) for n in range(count))

        return replace(
            self,
            copies=int(state["copies"]),
            total=maps("total"),
            squares=maps("squares"),
            first=maps("first"),
        )


def _largest(maps: Parts) -> float:
    """Return the largest magnitude of all; NaN if any value is."""
    return float(torch.stack([one.abs().max() for one in maps]).max())
