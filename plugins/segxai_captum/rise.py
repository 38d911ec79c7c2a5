"""RISE: the mean score over random masks that keep a voxel."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai import Box, Method, PerturbedScore, SegxaiError, hookimpl
from segxai_captum.baselines import BaselineOptions, baseline_of
from segxai_captum.explained import Explained, Found, explaining
from segxai_captum.lengths import check_lengths, in_voxels
from segxai_captum.regions import CHANNELS_HELP, Channels


@dataclass(frozen=True, kw_only=True)
class RiseOptions(BaselineOptions):
    """Which masks are drawn."""

    masks: int = field(default=500, metadata={"help": "how many are drawn"})
    cell: str = field(
        default="8", metadata={"help": "size of a mask's cells in voxels or mm: 8, 12mm or 8,8,4"}
    )
    keep: float = field(default=0.5, metadata={"help": "probability that a cell is kept"})
    centred: bool = field(
        default=False,
        metadata={"help": "subtract the mean score first, so that 0 means that nothing depends"},
    )
    channels: Channels = field(default="apart", metadata={"help": CHANNELS_HELP})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths("cell", self.cell)
        if self.masks < 2:
            raise SegxaiError(f"masks={self.masks}: give 2 or more")
        if not 0 < self.keep < 1:
            raise SegxaiError(f"keep={self.keep:g}: give a probability between 0 and 1")


@dataclass(frozen=True)
class Masks:
    """Random masks between 0 and 1: coarse cells, kept or not, shifted and interpolated linearly.

    A mask depends on the seed, its number and its channel alone, and a voxel's value in it does not
    depend on the box that it is drawn for.
    """

    seed: int
    cell: tuple[int, ...]
    keep: float
    shape: tuple[int, ...]

    def draw(self, number: int, channel: int, box: Box) -> Float[np.ndarray, "*box"]:
        """Draw one channel of one mask, on a box of the image."""
        random = np.random.default_rng([self.seed, number, channel])
        cells = [ceil(n / c) + 1 for n, c in zip(self.shape, self.cell, strict=True)]
        values = (random.random(cells) < self.keep).astype(np.float32)
        shift = [int(random.integers(c)) for c in self.cell]
        for axis, (start, size) in enumerate(zip(box.start, box.size, strict=True)):
            place = (np.arange(start, start + size) + shift[axis]) / self.cell[axis]
            values = np.apply_along_axis(_at, axis, values, place)
        return values


def _at(values: Float[np.ndarray, " cell"], place: Float[np.ndarray, " out"]) -> np.ndarray:
    """Interpolate linearly along one axis."""
    return np.interp(place, np.arange(len(values)), values).astype(np.float32)


def rise(explained: Explained) -> Found:
    """Compute RISE: sum over masks of score x mask, over their number and their mean.

    With `centred`, the score minus its mean over the masks.
    """
    own: RiseOptions = explained.context.own or RiseOptions()
    grid, image, baseline = explained.case.grid, explained.image, baseline_of(explained)
    cell = in_voxels("cell", own.cell, grid.spacing)
    masks = Masks(explained.options.seed, cell, own.keep, grid.shape)
    score = PerturbedScore(explained.score, image)
    channels = range(image.shape[1])
    total, kept = torch.zeros_like(image[0]).double(), torch.zeros_like(image[0]).double()
    scores = 0.0
    for number in range(own.masks):
        mask = _mask(masks, number, channels, explained.box, own.channels).to(image)
        value = float(score(torch.lerp(baseline.values, image, mask)))
        total += value * mask[0]
        kept += mask[0]
        scores += value
        explained.context.tick(1 / own.masks)
    if own.centred:
        total -= scores / own.masks * kept
    facts = {**baseline.facts, "mean_score": float(score.clean), "windows_run": score.windows_run}
    values = total / (own.masks * own.keep)
    return Found(values.to(image), facts={**facts, "mean_score_of_masks": scores / own.masks})


def _mask(
    masks: Masks, number: int, channels: Sequence[int], box: Box, how: Channels
) -> Float[Tensor, "1 channel *box"]:
    """Draw a mask; with channels together, that of the first channel for all."""
    drawn = [masks.draw(number, c, box) for c in (channels if how == "apart" else (0,))]
    mask = torch.from_numpy(np.stack(drawn))[None]
    return mask.expand(1, len(channels), *box.size)


@hookimpl
def segxai_method(name: str) -> Method:
    """Return RISE."""
    return explaining(
        rise,
        unit="score",
        sign="the score is above 0 where masks keep the voxel; 0 means little without centred=true",
        name=name,
        summary="the mean score over random masks of the image, weighted by what they keep",
        random=True,
        options=RiseOptions,
        reference="Petsiuk et al. 2018, arXiv:1806.07421",
    )
