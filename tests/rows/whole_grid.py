"""Rows as tests compare them: those of all voxels, on the whole grid."""

import torch

from segxai.rows.jacobian import rows
from segxai.rows.scores import SCORES
from segxai.segment.inference_mode import frozen


def rows_on_grid(predictor, image, voxels, engine=None, *, class_index=1, **options):
    """The rows of some voxels, in the order in which they are computed."""
    options |= {"class_index": class_index, "engine": engine}
    found = []
    with frozen(predictor.network):
        for batch in rows(predictor, image, voxels, **options):
            full = image.new_zeros(len(batch.values), *image.shape[1:])
            full[batch.box.index] = batch.values
            found.append(full)
    return torch.cat(found)


def in_order(found):
    """Rows in an order that depends on their values alone: theirs is a matter of memory."""
    flat = found.flatten(1).double()
    weights = torch.rand(flat.shape[1], generator=torch.Generator().manual_seed(2)).double()
    return found[(flat @ weights).argsort()]


def scores_of(predictor, score):
    """The score of class 1 at every voxel of the blended logits, as a map of one class."""

    def scored(image):
        logits = predictor(image)
        flat = SCORES[score](logits[0].flatten(1).T, 1)
        return flat.reshape(1, 1, *logits.shape[2:])

    return scored
