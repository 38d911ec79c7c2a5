"""What a network finds in the held-out cases, through the windows that explanations stand on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from segxai import Adapter, Box, Case, Grid
from segxai_ms_lesion.recipe.calibration import Reliability, reliability, together
from segxai_ms_lesion.recipe.cases import TrainingCase
from segxai_ms_lesion.recipe.evaluate import segmented
from segxai_ms_lesion.recipe.scores import Scores
from segxai_ms_lesion.recipe.validation import THRESHOLDS, Choice, choice_of, scores_at

Probability = Float[np.ndarray, "x y z"]


@dataclass(frozen=True)
class Findings:
    """The cases of every group, and the probability of lesion that a network gives each voxel."""

    cases: Mapping[str, list[TrainingCase]]
    probabilities: Mapping[str, list[Probability]]

    def reliability(self) -> dict[str, Reliability]:
        """Compute the reliability of each group, of all voxels of its brains."""
        return {
            group: together(
                reliability(probability[brain], (case.lesions > 0)[brain])
                for probability, case in zip(self.probabilities[group], members, strict=True)
                for brain in [(case.image != 0).any(axis=0)]
            )
            for group, members in self.cases.items()
        }

    def scores(self, threshold: float) -> dict[str, list[Scores]]:
        """Score each case at a threshold."""
        return scores_at(threshold, self.probabilities, self.cases)

    def best(self) -> Choice:
        """Choose the threshold of the highest quality."""
        choices = (choice_of(one, self.scores(one)) for one in THRESHOLDS)
        return max(choices, key=lambda choice: choice.quality)


def find(adapter: Adapter, network: nn.Module, cases: Mapping[str, list[TrainingCase]]) -> Findings:
    """Predict the cases by a network through the adapter's windows."""

    def probability(case: TrainingCase) -> Probability:
        """Probability of lesion; 0 outside the box around the brain."""
        box = Box.holding((case.image != 0).any(axis=0))
        segmentation = segmented(adapter, network, cropped(case, box, adapter.channels))
        whole = np.zeros(case.lesions.shape, dtype=np.float32)
        whole[box.index] = segmentation.probability(adapter.criteria.logit)
        return whole

    groups = {group: [probability(case) for case in members] for group, members in cases.items()}
    return Findings(cases, groups)


def cropped(case: TrainingCase, box: Box, channels: tuple[str, ...]) -> Case:
    """Cut the part of a case inside of a box, as adapters take it."""
    image = case.image[(slice(None), *box.index)].astype(np.float32)
    return Case(
        name="held out",
        image=image,
        channels=channels,
        grid=Grid.unit(box.size),
        foreground=(image != 0).any(axis=0),
    )
