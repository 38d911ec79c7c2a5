"""Precision: how far rows in a lower precision are from those in full float32."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.rows.mean_row import mean_row
from segxai.segment.inference_mode import exact_arithmetic
from segxai.segment.predictor import Predictor
from segxai.types import Instance

# Whatever the distribution, with 95 % confidence nine rows in ten are within the largest error of
# 29 drawn at random: 0.9^29 < 0.05.
COMPARED = 29


def compare_precision(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    score: str,
) -> dict[str, int | float]:
    """Compute some rows of an instance as things stand, and again in full precision.

    Returns
    -------
    dict
        "precision_rows", the number of rows, drawn at random, and "precision_error", the largest
        difference in any of them, relative to the row's peak.
    """
    voxels, errors = instance.row_voxels, []
    count = min(COMPARED, len(voxels))
    for number in np.random.default_rng(0).choice(len(voxels), count, replace=False):
        one = voxels[[number]]
        found = mean_row(predictor, image, one, class_index=instance.class_index, score=score)
        with exact_arithmetic():
            wanted = mean_row(predictor, image, one, class_index=instance.class_index, score=score)
        peak = wanted.abs().max().clamp(min=torch.finfo(wanted.dtype).tiny)
        errors.append(float((found - wanted).abs().max() / peak))
    return {"precision_rows": len(errors), "precision_error": max(errors)}
