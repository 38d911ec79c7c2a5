"""The mean of an instance's rows, and its logits, without computing single rows."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segxai.geometry import Box
from segxai.rows.batch import RowBatch
from segxai.rows.cotangent import CannotCarryError, Tape
from segxai.rows.weighted_score import WeightedScore
from segxai.rows.window_pass import Pass, Voxels, forward_pass, gradient_of
from segxai.segment.predictor import Predictor


def mean_row(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    class_index: int,
    score: str = "logit",
    engine: str = "auto",
) -> Float[Tensor, "channel *grid"]:
    """Compute the mean of an instance's rows, by one backward pass per window (Eq. 2).

    Equation 2 is taken for a single copy. The other parameters are those of `rows`. Only one
    window's graph is held at a time.

    Parameters
    ----------
    engine : {"auto", "windowed", "dense", "lowrank"}
        "dense" goes back through all of a window, the others through the box where the mean can
        differ from 0, which takes less time and gives the same values. Where an operation cannot be
        carried on a box, "windowed" raises CannotCarryError, and the others go back densely.
    """
    mean = WeightedScore.mean_over(voxels, class_index, score, predictor.activation)
    return score_gradient(predictor, image, mean, engine=engine)[0]


def score_gradient(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    score: WeightedScore,
    prepare: Callable[[Tensor], object] | None = None,
    *,
    engine: str = "dense",
) -> tuple[Float[Tensor, "channel *grid"], float]:
    """Compute the gradient of a weighted score by one backward pass per window, and the score.

    Parameters
    ----------
    prepare : callable, optional
        Called with the logits of each window before they are differentiated.
    engine
        As for `mean_row`. Dense by default: hooks in the backward pass may expect whole tensors.
    """
    total, value = torch.zeros_like(image[0]), 0.0
    windows = [one for one in predictor.layout.windows if predictor.covers(one, score.voxels).any()]
    blended = None
    if not score.is_linear and len(windows) > 1:
        blended = logits_at(predictor, image, score.voxels)
        value = float(score.value(blended))
    for window in windows:
        covered = predictor.covers(window, score.voxels)
        one = forward_pass(predictor, image, window)
        inner = score.voxels[covered]
        if blended is not None:
            logits = blended[torch.from_numpy(covered)]
        elif score.is_linear:  # the derivative does not depend on the logits
            logits = one.logits.new_zeros(len(inner), one.logits.shape[1])
        else:  # the logits of the only window are the blended ones
            logits = one.outputs(inner).detach().cpu()
            value = float(score.value(logits))
        weights = score.derivative(logits, covered).cpu() * one.shares(inner)
        if prepare is not None:
            prepare(one.logits)
        if score.is_linear:  # a linear score is its derivative times the logits
            classes = score.classes(weights.shape[1])
            logits = one.outputs(inner, classes).detach().cpu()
            value += float((weights[:, classes] * logits).sum(dtype=torch.float64))
        found = _sum_of_rows(one, inner, weights, engine)
        total[found.box.index] += found.values[0].to(total)
    return total, value


def _sum_of_rows(
    one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"], engine: str
) -> RowBatch:
    """Sum the weighted rows of some voxels in a window, by one backward pass."""
    if engine != "dense" and one.readout is None:
        try:
            return one.carry(voxels, weights, Tape(), summed=True)
        except CannotCarryError:
            if engine == "windowed":
                raise
    cotangent = one.cotangent(voxels, weights)
    return RowBatch(gradient_of(one.logits, one.leaf, cotangent), one.inside.start)


def logits_at(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels
) -> Float[Tensor, "voxel class"]:
    """Compute blended logits of some voxels without a graph, holding one window at a time."""
    total = torch.zeros(0)
    for window in predictor.layout.windows:
        covered, values = window_logits_at(predictor, image, window, voxels)
        if not len(total):
            total = values.new_zeros(len(voxels), values.shape[1])
        total[covered] += values
    return total


def window_logits_at(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], window: Box, voxels: Voxels
) -> tuple[Bool[Tensor, " voxel"], Float[Tensor, "covered class"]]:
    """Compute what a window adds to the blended logits of some voxels, on the CPU.

    Returns
    -------
    covered : Tensor of shape (voxel,)
        To which of the voxels it contributes.
    logits : Tensor of shape (covered, class)
        Its logits there, times its share in the blend.
    """
    covered = predictor.covers(window, voxels)
    one, inner = forward_pass(predictor, image, window, has_graph=False), voxels[covered]
    values = one.outputs(inner).cpu()
    return torch.from_numpy(covered), values * one.shares(inner).to(values)
