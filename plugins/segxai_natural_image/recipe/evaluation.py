"""Score the embedded network: on the coins that it was trained on, and on those it was not."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Num
from scipy import ndimage
from torch import nn

from segxai import frozen
from segxai_natural_image.coins import CRITERIA, FEED, predict_coins

FOUND = 0.5  # intersection over union above which a coin counts as found


def score(
    network: nn.Module,
    photograph: Num[np.ndarray, "y x"],
    labels: Int[np.ndarray, "y x"],
    trained_columns: int,
) -> dict[str, dict[str, Any]]:
    """Dice of the pixels and what became of the coins, for the trained part and the held-out one.

    A coin counts where it lies wholly; one on the line between the parts counts in none.
    """
    predicted = predict(network, photograph)
    first = {n: int(np.nonzero(labels == n)[1].min()) for n in range(1, labels.max() + 1)}
    last = {n: int(np.nonzero(labels == n)[1].max()) for n in first}
    parts = {
        "trained": (np.s_[:, :trained_columns], [n for n in last if last[n] < trained_columns]),
        "held out": (np.s_[:, trained_columns:], [n for n in first if first[n] >= trained_columns]),
    }
    return {
        name: {
            "dice": round(_dice(predicted[part], labels[part] > 0), 4),
            **_of_coins(predicted, labels, numbers),
        }
        for name, (part, numbers) in parts.items()
    }


def predict(network: nn.Module, photograph: Num[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Where the network sees coins."""
    case = FEED.case(np.stack([photograph.astype(np.float32)] * 3), "coins")
    predictor = predict_coins(network, case, CRITERIA)
    with torch.no_grad(), frozen(network):
        logits = predictor(torch.from_numpy(case.image)[None])[0]
    return np.asarray(logits.argmax(dim=0).numpy() == 1)


def _of_coins(
    predicted: Bool[np.ndarray, "y x"], labels: Int[np.ndarray, "y x"], numbers: list[int]
) -> dict[str, Any]:
    """Which coins there are, their overlaps with one component each, and how many are found."""
    components, _ = ndimage.label(predicted, ndimage.generate_binary_structure(2, 2))
    overlaps = [_best_overlap(components, labels == n) for n in numbers]
    return {
        "coins": numbers,
        "found": sum(one > FOUND for one in overlaps),
        "mean_overlap": round(float(np.mean(overlaps)), 4),
        "smallest_overlap": round(min(overlaps), 4),
    }


def _best_overlap(components: Int[np.ndarray, "y x"], coin: Bool[np.ndarray, "y x"]) -> float:
    """Intersection over union with the component that covers most of a coin."""
    counts = np.bincount(components[coin])
    counts[0] = 0
    if not counts.any():
        return 0.0
    component = components == counts.argmax()
    return float((component & coin).sum() / (component | coin).sum())


def _dice(predicted: Bool[np.ndarray, "*part"], drawn: Bool[np.ndarray, "*part"]) -> float:
    return float(2 * (predicted & drawn).sum() / (predicted.sum() + drawn.sum()))
