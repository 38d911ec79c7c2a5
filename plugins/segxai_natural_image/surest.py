"""Surest: the candidates of a model that count as detections, the surest first."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from segxai import SegxaiError

MOST_LOGITS = 2**29  # of all detections and pixels; 2 GiB as float32


def surest(
    scores: Float[Tensor, " candidate"],
    labels: Int[Tensor, " candidate"],
    masks: Bool[Tensor, "candidate y x"],
    classes: Sequence[str],
    threshold: float | None,
) -> Int[Tensor, " detection"]:
    """Select the candidates with a mask and a score of the threshold or more, the surest first.

    A threshold of None keeps all that have a mask.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    order = scores.argsort(descending=True, stable=True)
    shown = order[masks.flatten(1).any(dim=1)[order]]
    kept = shown if threshold is None else shown[scores[shown] >= threshold]
    if len(kept):
        return kept
    best = "no candidate has a mask"
    if len(shown):
        best = f"the surest is {classes[int(labels[shown[0]])]} with {float(scores[shown[0]]):.2f}"
    raise SegxaiError(
        f"the model detects nothing with a score of {threshold or 0:g} or more; {best}; give a "
        "lower --threshold"
    )


def domains(masks: Bool[Tensor, "detection y x"]) -> tuple[Int[np.ndarray, "_ axis"], ...]:
    """List the voxels of each mask."""
    return tuple(np.argwhere(mask) for mask in masks.cpu().numpy())


def check_size(detections: int, shape: tuple[int, ...]) -> None:
    """Check that the logits of all detections in a whole picture fit into memory.

    Raises
    ------
    SegxaiError
        If they do not.
    """
    pixels = shape[0] * shape[1]
    if detections * pixels <= MOST_LOGITS:
        return
    share = (MOST_LOGITS / detections / pixels) ** 0.5
    raise SegxaiError(
        f"{detections} detections in a picture of {shape[0]} x {shape[1]} pixels are "
        f"{detections * pixels * 4 / 2**30:.1f} GiB of logits; give a higher --threshold, or a "
        f"picture of at most {int(share * shape[0])} x {int(share * shape[1])} pixels (rows x "
        "columns)"
    )
