"""What the network is trained to minimise."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

REFERENCE_LOAD = 0.004  # about the mean share of lesion voxels in a training patch
BLOB_WEIGHT = 0.5
FOCAL_WEIGHT = 20.0  # a mean over voxels, of which few are hard
FOCAL_POWER = 1.5
ENTROPY_WEIGHT = 100.0  # a mean over voxels: few of them are lesion
EVEN_BLOB_WEIGHT = 0.25


def training_loss(
    logits: Float[Tensor, "batch class x y z"], lesions: Integer[Tensor, "batch x y z"]
) -> Float[Tensor, ""]:
    """Normalised Dice, blob and focal loss, weighed by the constants of this module."""
    log_probability = functional.log_softmax(logits.float(), dim=1)
    probability = log_probability[:, 1].exp()
    dice = normalised_dice_loss(probability, lesions > 0)
    blob = blob_loss(probability, lesions)
    return dice + BLOB_WEIGHT * blob + FOCAL_WEIGHT * focal_loss(log_probability, lesions > 0)


def even_loss(
    logits: Float[Tensor, "batch class x y z"], lesions: Integer[Tensor, "batch x y z"]
) -> Float[Tensor, ""]:
    """Cross-entropy, Dice loss of the whole batch and a little blob loss.

    A false positive weighs the same in patches of light and of heavy load. In `training_loss` it
    weighs up to 25 times as much in the latter, so that probabilities come out too high where
    there is little lesion, and too low where there is much.
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    probability = log_probability[:, 1].exp()
    entropy = functional.nll_loss(log_probability, (lesions > 0).to(torch.int64))
    dice = batch_dice_loss(probability, lesions > 0)
    blob = blob_loss(probability, lesions)
    return ENTROPY_WEIGHT * entropy + dice + EVEN_BLOB_WEIGHT * blob


def batch_dice_loss(probability: Float[Tensor, "batch x y z"], lesion: Tensor) -> Float[Tensor, ""]:
    """One minus the Dice score of all patches together; 0 for nothing drawn where nothing is."""
    lesion = lesion.to(probability.dtype)
    both = (probability * lesion).sum()
    return 1 - (2 * both + 1) / (probability.sum() + lesion.sum() + 1)


def normalised_dice_loss(
    probability: Float[Tensor, "batch x y z"], lesion: Tensor
) -> Float[Tensor, ""]:
    """One minus the normalised Dice score, averaged over the patches that hold a lesion.

    False positives count as if every patch had the reference load, so that patches of few lesion
    voxels weigh as much as others. The factor is kept within [0.2, 5]. 0 without lesions.

    References
    ----------
    Raina et al., "Tackling bias in the Dice similarity coefficient: introducing nDSC for white
    matter lesion segmentation", ISBI 2023, doi 10.1109/ISBI53787.2023.10230755.
    """
    lesion = lesion.flatten(1).to(probability.dtype)
    found = probability.flatten(1)
    load = lesion.mean(dim=1)
    odds = REFERENCE_LOAD / (1 - REFERENCE_LOAD)
    factor = (load / (1 - load) / odds).clamp(0.2, 5)
    true_positive = (found * lesion).sum(dim=1)
    false_positive = (found * (1 - lesion)).sum(dim=1)
    false_negative = ((1 - found) * lesion).sum(dim=1)
    wrong = factor * false_positive + false_negative
    score = 2 * true_positive / (2 * true_positive + wrong + 1)
    present = (load > 0).to(probability.dtype)
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def blob_loss(
    probability: Float[Tensor, "batch x y z"], lesions: Integer[Tensor, "batch x y z"]
) -> Float[Tensor, ""]:
    """Mean Dice loss over lesions, each scored with all other lesions masked out; 0 without any.

    Small lesions count as much as large ones.

    References
    ----------
    Kofler et al., "blob loss: instance imbalance aware loss functions for semantic segmentation",
    2022, doi 10.48550/arXiv.2205.08209.
    """
    losses = [
        _blob_losses(found, labels)
        for found, labels in zip(probability, lesions, strict=True)
        if labels.any()
    ]
    if not losses:
        return probability.sum() * 0
    return torch.stack([values.mean() for values in losses]).mean()


def _blob_losses(
    probability: Float[Tensor, "x y z"], labels: Integer[Tensor, "x y z"]
) -> Float[Tensor, " lesion"]:
    """Dice loss of every lesion of one patch."""
    index = labels.flatten()
    size = torch.bincount(index)
    total = torch.zeros(len(size), dtype=probability.dtype)
    total = total.index_add(0, index, probability.flatten())
    outside, inside = total[0], total[1:][size[1:] > 0]
    return 1 - (2 * inside + 1) / (outside + inside + size[1:][size[1:] > 0] + 1)


def focal_loss(
    log_probability: Float[Tensor, "batch class x y z"], lesion: Tensor
) -> Float[Tensor, ""]:
    """Cross-entropy, weighed down where the network is right, as a mean over voxels.

    It alone holds back false positives in patches without lesions.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", ICCV 2017, doi 10.1109/ICCV.2017.324.
    """
    target = lesion.to(torch.int64)
    right = log_probability.gather(1, target[:, None])[:, 0]
    loss = -((1 - right.exp()) ** FOCAL_POWER) * right
    return loss.mean()
