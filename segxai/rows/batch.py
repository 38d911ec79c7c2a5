"""Batches of rows, which engines compute and aggregators take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box


@dataclass(frozen=True)
class RowBatch:
    """Some rows of an instance's Jacobian, on the box where they can differ from 0.

    Parameters
    ----------
    values : Tensor of shape (row, channel, *box)
        D_v' for a few output voxels v', in score per unit of the input.
    start : tuple of int
        First voxel of the box on the grid.
    scales : mapping
        By score: what each row must be multiplied by to become a row of that score. Empty unless
        asked for.
    logits : Tensor of shape (row, class), optional
        Blended logits of the output voxels, on the CPU; None behind a readout.
    """

    values: Float[Tensor, "row channel *box"]
    start: tuple[int, ...]
    scales: Mapping[str, Float[Tensor, " row"]] = field(default_factory=dict)
    logits: Float[Tensor, "row class"] | None = None

    @property
    def box(self) -> Box:
        """The box of the rows on the grid."""
        return Box(self.start, tuple(self.values.shape[2:]))

    def take(self, rows: slice) -> "RowBatch":
        """Return a slice of the rows, with their scales and logits."""
        return replace(
            self,
            values=self.values[rows],
            scales={score: one[rows] for score, one in self.scales.items()},
            logits=None if self.logits is None else self.logits[rows],
        )
