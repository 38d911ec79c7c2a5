"""Segmentation of a case by a predictor, slab by slab."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from segxai.errors import SegxaiError
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.types import Case, Progress

MOST_KEPT = 2**26  # logits of all classes; 256 MiB as float32


def segment(
    predictor: Predictor,
    case: Case,
    classes: Sequence[str],
    progress: Progress | None = None,
    *,
    explained: int | None = None,
) -> Segmentation:
    """Segment a case with a predictor.

    Parameters
    ----------
    explained : int, optional
        The class whose logits are kept if those of all classes are too many to keep. If not given,
        all are kept.

    Raises
    ------
    SegxaiError
        If the network does not have as many classes as `classes`, or its logits are not finite.
    """
    is_large = len(classes) * math.prod(case.domain_grid.shape) > MOST_KEPT
    kept = None if explained is None or not is_large else (explained,)
    parts = []
    with torch.no_grad(), frozen(predictor.network), exact_arithmetic():
        for slab in predictor.slabs(torch.from_numpy(case.image)[None], progress):
            logits = slab.numpy()
            _check(logits, classes)
            parts.append(Segmentation.of(logits, tuple(classes), predictor.activation, kept))
    return Segmentation.joined(parts)


def _check(logits: Float[np.ndarray, "class *slab"], classes: Sequence[str]) -> None:
    if len(logits) != len(classes):
        raise SegxaiError(
            f"the network returns {len(logits)} logits for each voxel, but its adapter "
            f"names {len(classes)} classes: {', '.join(classes)}"
        )
    if not np.isfinite(logits).all():
        raise SegxaiError("the network's logits are not finite; are its weights damaged?")
