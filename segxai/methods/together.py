"""Several aggregators and scores in one go: rows are computed once where they can be shared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.methods.method import Aggregator, takes_rows
from segxai.methods.options import MethodOptions
from segxai.rows.batch import RowBatch
from segxai.rows.scores import base_of
from segxai.segment.predictor import Predictor

Pair = tuple[Aggregator | None, str]  # an aggregator, if the method has rows, and a score


@dataclass(frozen=True)
class Together:
    """Several aggregators that fold the same rows, each scaled to a score of its own.

    A row is scaled before it is aggregated: a finished map cannot be, because the scale differs
    between output voxels and noisy copies.

    Parameters
    ----------
    folds : tuple of (Aggregator, str)
        Each aggregator, and the score whose rows it gets.
    base : str
        The score whose rows are computed.
    """

    folds: tuple[tuple[Aggregator, str], ...]
    base: str
    name: str = "together"
    linear: bool = False

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores of the folds, each once."""
        return tuple(dict.fromkeys(score for _, score in self.folds))

    def start(self, template: Float[Tensor, "channel *grid"]) -> tuple[Any, ...]:
        """Return a fresh state for each fold."""
        return tuple(aggregator.start(template) for aggregator, _ in self.folds)

    def add(self, state: tuple[Any, ...], batch: RowBatch) -> tuple[Any, ...]:
        """Add the rows to each fold, as rows of its score."""
        scaled = {score: _scaled(batch, score) for score in self.scores}
        return tuple(
            aggregator.add(one, scaled[score])
            for one, (aggregator, score) in zip(state, self.folds, strict=True)
        )

    def finish(self, state: tuple[Any, ...]) -> Float[Tensor, "fold channel *grid"]:
        """Return the map of each fold."""
        maps = zip(state, self.folds, strict=True)
        return torch.stack([aggregator.finish(one) for one, (aggregator, _) in maps])


def _scaled(batch: RowBatch, score: str) -> RowBatch:
    """Scale rows to those of another score."""
    scale = batch.scales[score]
    shape = (-1, *(1,) * (batch.values.ndim - 1))
    return replace(batch, values=batch.values * scale.to(batch.values).reshape(shape))


def group_pairs(
    pairs: Sequence[Pair], options: MethodOptions, predictor: Predictor, classes: int
) -> list[list[int]]:
    """Group the pairs whose rows can be computed once, by their numbers.

    Pairs share rows where one of them takes rows one by one and their scores are multiples of each
    other at every output voxel: see `base_of`. They do not where the number of copies follows from
    each map's own error, where rows are a sample, or where a readout leads elsewhere.
    """
    alone = [[number] for number in range(len(pairs))]
    if options.noise.samples == "auto" or options.rows is not None:
        return alone
    if predictor.readout is not None:
        return alone
    found: dict[str, list[int]] = {}
    for number, (_, score) in enumerate(pairs):
        found.setdefault(base_of(score, classes, predictor.activation), []).append(number)
    groups = []
    for members in found.values():
        is_shared = any(takes_rows(pairs[number][0]) for number in members)
        groups += [members] if is_shared else [[number] for number in members]
    return sorted(groups)
