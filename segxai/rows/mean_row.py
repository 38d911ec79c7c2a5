"""The mean of an instance's rows, and its logits, without computing single rows."""

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.rows.scores import cotangents
from segxai.rows.window_pass import Voxels, forward_pass, gradient_of
from segxai.segment.predictor import Predictor


def mean_row(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
) -> Float[Tensor, "channel *grid"]:
    """Compute the mean of an instance's rows, by one backward pass per window (Eq. 2).

    Equation 2 is taken for a single copy. The parameters are those of `rows`. Only one window's
    graph is held at a time.
    """
    total = torch.zeros_like(image[0])
    blended = None if score == "logit" else logits_at(predictor, image, voxels)
    for window in predictor.layout.windows:
        covered = predictor.covers(window, voxels)
        one = forward_pass(predictor, image, window)
        inner = voxels[covered]
        # The cotangent of a plain logit does not depend on the logits: this window's will do.
        logits = one.outputs(inner) if blended is None else blended[torch.from_numpy(covered)]
        weights = cotangents(score, logits, class_index, predictor.activation).cpu()
        weights = weights * one.shares(inner) / len(voxels)
        cotangent = one.cotangent(inner, weights)
        gradient = gradient_of(one.logits, one.leaf, cotangent)
        total[one.inside.index] += gradient[0].to(total)
    return total


def logits_at(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels
) -> Float[Tensor, "voxel class"]:
    """Compute blended logits of some voxels without a graph, holding one window at a time."""
    with torch.no_grad():
        total = torch.zeros(0)
        for window in predictor.layout.windows:
            one, covered = forward_pass(predictor, image, window), predictor.covers(window, voxels)
            inner = voxels[covered]
            values = one.outputs(inner).detach().cpu()
            if not len(total):
                total = values.new_zeros(len(voxels), values.shape[1])
            total[torch.from_numpy(covered)] += values * one.shares(inner).to(values)
    return total
