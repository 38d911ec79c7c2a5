"""Domain scores: the mean score of a domain on each noisy copy, and its spread over the copies."""

from collections.abc import Sequence
from math import isfinite
from statistics import stdev

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.methods.resume_state import State
from segxai.rows.batch import RowBatch
from segxai.rows.mean_row import logits_at
from segxai.rows.weighted_score import WeightedScore
from segxai.segment.predictor import Predictor
from segxai.types import Instance

BOOKMARK_NAME = "domain_scores"  # its name in a bookmark


class DomainScores:
    """The mean of each of some scores over a domain, on one image after the other.

    Parameters
    ----------
    names : sequence of {"logit", "margin", "probability"}
        The scores.

    Attributes
    ----------
    values : list of list of float
        Of each image so far, the value of each score.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.values: list[list[float]] = []
        self._collected: list[Float[Tensor, "row class"]] = []

    def collect(self, batch: RowBatch) -> None:
        """Keep the logits of a batch of rows until `measure` uses them."""
        if batch.logits is not None:
            self._collected.append(batch.logits)

    def measure(
        self, predictor: Predictor, image: Float[Tensor, "1 channel *grid"], instance: Instance
    ) -> None:
        """Compute the scores on one more image.

        The logits are those that came with its rows, if that was a row of each voxel of the domain.
        Otherwise each window takes a forward pass, so that the predictor should be cut down to the
        instance.
        """
        voxels, activation = instance.voxels, predictor.activation
        collected, self._collected = self._collected, []
        is_complete = sum(map(len, collected)) == len(voxels)
        logits = torch.cat(collected) if is_complete else logits_at(predictor, image, voxels)
        means = (
            WeightedScore.mean_over(voxels, instance.class_index, name, activation)
            for name in self.names
        )
        self.values.append([float(mean.value(logits)) for mean in means])

    def deviation(self, name: str, copies: int) -> float | None:
        """Return the standard deviation of a score over so many images (the divisor is n - 1).

        None for a single image, and where a value is missing, as after an older version's part of
        the work, or is not finite.
        """
        found = [values[self.names.index(name)] for values in self.values]
        if copies < 2 or len(found) != copies or not all(map(isfinite, found)):
            return None
        return stdev(found)

    def state(self) -> State:
        """Return what a bookmark keeps; empty as long as there are no values."""
        return (
            {BOOKMARK_NAME: torch.tensor(self.values, dtype=torch.float64)} if self.values else {}
        )

    def restore(self, state: State) -> None:
        """Restore the values that were kept, if any were."""
        if BOOKMARK_NAME in state:
            self.values = state[BOOKMARK_NAME].tolist()
