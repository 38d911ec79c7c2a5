"""What every choice is made on: phantoms and the training patient, with lesions held out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from segxai_ms_lesion.recipe.anatomies import patient_anatomy
from segxai_ms_lesion.recipe.cases import (
    Normalise,
    Sources,
    TrainingCase,
    finished,
    made_case,
    open_sources,
)
from segxai_ms_lesion.recipe.scores import Scores, score
from segxai_ms_lesion.recipe.sources import HELD_OUT_MASKS
from segxai_ms_lesion.recipe.volumes import grid_points

SEED = 1_000_003  # apart from every training seed
PHANTOMS, PASTED = "phantoms", "pasted"
# Masks of each case: up to 6 ml, and from 14 ml with a lesion of more than 5 ml.
LOADS = {"light": ((2,), (8,), (17,)), "heavy": ((15,), (25,), (15, 25))}
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Choice:
    """A threshold and how good the network is with it."""

    threshold: float
    quality: float
    groups: dict[str, tuple[float, float, float, float]]  # Dice, nDSC, lesion TPR, lesion FDR


def held_out_cases(data: Path, normalise: Normalise) -> dict[str, list[TrainingCase]]:
    """Cases by group: new phantoms, the deformed patient with new lesions, the patient itself.

    Loads are held apart: a network whose probabilities fit one of them may not fit the other.
    """
    sources = open_sources(data, HELD_OUT_MASKS, normalise)
    groups = {
        f"{load} {kind}": [
            _drawn(sources, numbers, on_patient=kind == PASTED, heavy=load == "heavy")
            for numbers in members
        ]
        for kind in (PHANTOMS, PASTED)
        for load, members in LOADS.items()
    }
    return {**groups, "patient07": [_plain_patient(sources)]}


def _drawn(
    sources: Sources, numbers: tuple[int, ...], *, on_patient: bool, heavy: bool
) -> TrainingCase:
    """Make a random case whose lesions come from the held-out masks of those numbers."""
    masks = [sources.masks[HELD_OUT_MASKS.index(number)] for number in numbers]
    random = np.random.default_rng([SEED, *numbers, int(on_patient)])
    return made_case(sources, masks, random, on_patient=on_patient, heavy=heavy)


def _plain_patient(sources: Sources) -> TrainingCase:
    """Make a case of the training patient as it is."""
    anatomy = patient_anatomy(sources.patient, grid_points())
    return finished(np.stack([anatomy.flair, anatomy.mprage]), anatomy, sources.normalise)


def scores_at(
    threshold: float,
    probabilities: Mapping[str, list[Float[np.ndarray, "x y z"]]],
    cases: Mapping[str, list[TrainingCase]],
) -> dict[str, list[Scores]]:
    """Score each case of each group at a threshold."""
    return {
        group: [
            score(probability > threshold, case.lesions > 0)
            for probability, case in zip(probabilities[group], members, strict=True)
        ]
        for group, members in cases.items()
    }


def choice_of(threshold: float, scores: Mapping[str, list[Scores]]) -> Choice:
    """Summarise the scores of a threshold.

    Quality is the mean over the groups of the geometric mean of Dice and lesion-wise F1,
    which a network that draws everything as one lesion cannot raise.
    """
    quality = np.mean([_quality(members) for members in scores.values()])
    groups = {group: means(members) for group, members in scores.items()}
    return Choice(threshold, float(quality), groups)


def _quality(scores: list[Scores]) -> float:
    """Geometric mean of Dice and lesion-wise F1, over cases; one that is undefined counts 0."""
    values = [np.nan_to_num(one.dice) * np.nan_to_num(one.matching.f1) for one in scores]
    return float(np.mean(np.sqrt(values)))


def means(scores: list[Scores]) -> tuple[float, float, float, float]:
    """Average Dice, normalised Dice, lesion-wise true positive and false discovery rates."""
    return (
        _defined_mean([one.dice for one in scores]),
        _defined_mean([one.normalised_dice for one in scores]),
        _defined_mean([one.matching.recall for one in scores]),
        _defined_mean([1 - one.matching.precision for one in scores]),
    )


def _defined_mean(values: list[float]) -> float:
    """Mean of the values that are not NaN; NaN if none is left."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
