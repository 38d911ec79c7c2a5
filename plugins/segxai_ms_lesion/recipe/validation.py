"""What every choice is made on: phantoms and the training patient, with lesions held out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai_ms_lesion.recipe.anatomies import patient_anatomy
from segxai_ms_lesion.recipe.cases import (
    Normalise,
    Sources,
    TrainingCase,
    finished,
    open_sources,
    random_case,
)
from segxai_ms_lesion.recipe.scores import Scores, score
from segxai_ms_lesion.recipe.sources import HELD_OUT_MASKS
from segxai_ms_lesion.recipe.volumes import grid_points

Predict = Callable[[Float[Tensor, "1 channel x y z"]], Float[Tensor, "1 class x y z"]]

SEED = 1_000_003  # apart from every training seed
CASES_EACH = 5
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Choice:
    """A threshold and how good the network is with it."""

    threshold: float
    quality: float
    groups: dict[str, tuple[float, float, float, float]]  # Dice, nDSC, lesion TPR, lesion FDR


def held_out_cases(data: Path, normalise: Normalise) -> dict[str, list[TrainingCase]]:
    """Cases by group: new phantoms, the deformed patient with new lesions, the patient itself."""
    sources = open_sources(data, HELD_OUT_MASKS, normalise)
    return {
        "phantom": [_drawn(sources, number, patient=False) for number in range(CASES_EACH)],
        "pasted": [_drawn(sources, number, patient=True) for number in range(CASES_EACH)],
        "patient07": [_plain_patient(sources)],
    }


def _drawn(sources: Sources, number: int, *, patient: bool) -> TrainingCase:
    """Make a random case whose lesions come from the held-out mask of that number."""
    masks = [sources.masks[number % len(sources.masks)]]
    chosen = replace(sources, masks=masks)
    random = np.random.default_rng([SEED, number, int(patient)])
    return random_case(chosen, random, patient=patient)


def _plain_patient(sources: Sources) -> TrainingCase:
    """Make a case of the training patient as it is."""
    anatomy = patient_anatomy(sources.patient, grid_points())
    return finished(np.stack([anatomy.flair, anatomy.mprage]), anatomy, sources.normalise)


def lesion_probability(predict: Predict, case: TrainingCase) -> Float[np.ndarray, "x y z"]:
    """Softmax probability of lesion."""
    image = torch.from_numpy(case.image.astype(np.float32))
    with torch.no_grad():
        logits = predict(image[None])
    return torch.softmax(logits, dim=1)[0, 1].numpy()


def best_threshold(predict: Predict, cases: dict[str, list[TrainingCase]]) -> Choice:
    """Choose the threshold of the highest quality, with the scores that it gives.

    Quality is the mean over the groups of the mean of Dice and lesion-wise F1.
    """
    probabilities = {
        group: [lesion_probability(predict, case) for case in members]
        for group, members in cases.items()
    }
    choices = [_choice(threshold, probabilities, cases) for threshold in THRESHOLDS]
    return max(choices, key=lambda choice: choice.quality)


def _choice(
    threshold: float,
    probabilities: dict[str, list[Float[np.ndarray, "x y z"]]],
    cases: dict[str, list[TrainingCase]],
) -> Choice:
    """Scores of one threshold."""
    scores = {
        group: [
            score(probability > threshold, case.lesions > 0)
            for probability, case in zip(probabilities[group], members, strict=True)
        ]
        for group, members in cases.items()
    }
    quality = np.mean([_quality(members) for members in scores.values()])
    means = {group: _means(members) for group, members in scores.items()}
    return Choice(threshold, float(quality), means)


def _quality(scores: list[Scores]) -> float:
    """Mean of Dice and lesion-wise F1 over cases; a score that is undefined counts 0."""
    values = [(np.nan_to_num(one.dice), np.nan_to_num(one.lesion_f1)) for one in scores]
    return float(np.mean(values))


def _means(scores: list[Scores]) -> tuple[float, float, float, float]:
    """Mean Dice, normalised Dice, lesion-wise true positive and false discovery rates."""
    return (
        _defined_mean([one.dice for one in scores]),
        _defined_mean([one.normalised_dice for one in scores]),
        _defined_mean([one.true_positive_rate for one in scores]),
        _defined_mean([one.false_discovery_rate for one in scores]),
    )


def _defined_mean(values: list[float]) -> float:
    """Mean of the values that are not NaN; NaN if none is left."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
