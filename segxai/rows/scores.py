"""Scores: one number for each output voxel, computed from its logits; rows are its gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.errors import SegxaiError, unknown_name
from segxai.types import Activation

Score = Callable[[Float[Tensor, "voxel class"], int], Float[Tensor, " voxel"]]


def logit(logits: Float[Tensor, "voxel class"], class_index: int) -> Float[Tensor, " voxel"]:
    """Return the logit of the class: the paper's y."""
    return logits[:, class_index]


def margin(logits: Float[Tensor, "voxel class"], class_index: int) -> Float[Tensor, " voxel"]:
    """Return the class's logit minus the largest other logit: positive where the class wins.

    If the network has a single logit, the margin is that logit.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    others = torch.cat([logits[:, :class_index], logits[:, class_index + 1 :]], dim=1)
    return logits[:, class_index] - others.amax(dim=1)


def probability(logits: Float[Tensor, "voxel class"], class_index: int) -> Float[Tensor, " voxel"]:
    """Compute the softmax of the blended logits, or the sigmoid if there is a single logit."""
    if logits.shape[1] == 1:
        return torch.sigmoid(logits[:, 0])
    return torch.softmax(logits, dim=1)[:, class_index]


def own_probability(
    logits: Float[Tensor, "voxel class"], class_index: int
) -> Float[Tensor, " voxel"]:
    """Compute the sigmoid of the class's own logit, for logits that are independent."""
    return torch.sigmoid(logits[:, class_index])


SCORES: dict[str, Score] = {"logit": logit, "margin": margin, "probability": probability}
# Independent logits are not compared with each other.
OWN_SCORES: dict[str, Score] = {"logit": logit, "margin": logit, "probability": own_probability}


def find_score(name: str, activation: Activation = "softmax") -> Score:
    """Find the score with this name, for logits with this activation.

    Raises
    ------
    SegxaiError
        If there is no such score; the message lists the known ones.
    """
    if name not in SCORES:
        raise unknown_name("score", name, SCORES)
    return (SCORES if activation == "softmax" else OWN_SCORES)[name]


def check_class(class_index: int, classes: int) -> None:
    """Raise SegxaiError if a network of so many classes has no such class."""
    if not 0 <= class_index < classes:
        raise SegxaiError(
            f"no class {class_index}: the network has {classes} classes, 0 to {classes - 1}"
        )


def cotangents(
    name: str,
    logits: Float[Tensor, "voxel class"],
    class_index: int,
    activation: Activation = "softmax",
) -> Float[Tensor, "voxel class"]:
    """Compute the derivative of each voxel's score with respect to its own logits.

    Raises
    ------
    SegxaiError
        If the network has no such class.
    """
    check_class(class_index, logits.shape[1])
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        total = find_score(name, activation)(leaf, class_index).sum()
        return torch.autograd.grad(total, leaf)[0]


def base_of(score: str, classes: int, activation: Activation = "softmax") -> str:
    """Return the score of whose row a score's row is a multiple, at each output voxel.

    The probability's row is p (1 - p) times that of the log-odds, which is the logit of a single or
    independent logit, and the margin of two classes under a softmax.
    """
    if classes == 1 or activation == "sigmoid":
        return "logit"
    return "margin" if classes == 2 and score == "probability" else score


def scale_of(
    score: str,
    logits: Float[Tensor, "voxel class"],
    class_index: int,
    activation: Activation = "softmax",
) -> Float[Tensor, " voxel"]:
    """Compute by what a row of the score's base must be multiplied, for each output voxel."""
    if score != "probability":
        return torch.ones_like(logits[:, class_index])
    probability = find_score(score, activation)(logits, class_index)
    return probability * (1 - probability)
