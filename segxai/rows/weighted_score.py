"""Weighted scores: the one number that is explained, a weighted sum over some output voxels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from segxai.errors import SegxaiError, option
from segxai.geometry import Box
from segxai.rows.scores import check_class, cotangents, find_score
from segxai.types import Activation, Instance

BORDER = "border"


@dataclass(frozen=True)
class WeightedScore:
    """A weighted sum of the scores of some output voxels.

    Parameters
    ----------
    voxels : ndarray of shape (voxel, axis)
        On the grid of instances.
    weights : Tensor of shape (voxel,)
        By how much the score of each counts.
    class_index : int
        The class whose score counts.
    score : {"logit", "margin", "probability"}
        Which score.
    against : int, optional
        A class whose score at each voxel is subtracted first.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities.
    """

    voxels: Int[np.ndarray, "voxel axis"]
    weights: Float[Tensor, " voxel"]
    class_index: int = 1
    score: str = "logit"
    against: int | None = None
    activation: Activation = "softmax"

    @classmethod
    def mean_over(
        cls,
        voxels: Int[np.ndarray, "voxel axis"],
        class_index: int,
        score: str = "logit",
        activation: Activation = "softmax",
    ) -> "WeightedScore":
        """Build the mean score of a class over some voxels."""
        weights = torch.full((len(voxels),), 1 / len(voxels))
        return cls(voxels, weights, class_index, score, None, activation)

    @classmethod
    def of(
        cls,
        instance: Instance,
        shape: Sequence[int] | None,
        score: str = "logit",
        contrast: str | int | None = None,
        activation: Activation = "softmax",
    ) -> "WeightedScore":
        """Build the mean score over an instance's domain, or a contrast of it.

        Parameters
        ----------
        shape : sequence of int, optional
            Shape of the grid of instances; needed for the border.
        contrast : "border" or int, optional
            "border" is the mean over the domain's voxels that touch a voxel outside it, minus the
            mean over those that they touch, by their faces. A number is a class whose score is
            subtracted at each voxel.

        Raises
        ------
        SegxaiError
            If the domain has no border.
        """
        if contrast == BORDER:
            inner, outer = _shells(instance, Box.whole(shape or ()))
            voxels = np.concatenate([inner, outer])
            weights = torch.full((len(voxels),), 1 / len(inner))
            weights[len(inner) :] = -1 / len(outer)
            return cls(voxels, weights, instance.class_index, score, None, activation)
        if not isinstance(contrast, int | None):
            raise ValueError(f"unknown contrast {contrast!r}")
        if contrast == instance.class_index:
            raise SegxaiError(
                f"instance {instance.label} is of class {contrast} itself: name another with "
                f"{option('contrast')}, or leave it out"
            )
        mean = cls.mean_over(instance.row_voxels, instance.class_index, score, activation)
        return replace(mean, against=contrast)

    @property
    def is_linear(self) -> bool:
        """Whether it is linear in the logits, so that its derivative does not depend on them."""
        return self.score == "logit"

    def classes(self, count: int) -> Sequence[int]:
        """List the classes, of so many, whose logits matter."""
        if not self.is_linear:
            return range(count)
        return [one for one in (self.class_index, self.against) if one is not None]

    def value(self, logits: Float[Tensor, "voxel class"]) -> Float[Tensor, ""]:
        """Compute the sum from the logits at its voxels."""
        for index in (self.class_index, self.against):
            check_class(0 if index is None else index, logits.shape[1])
        score = find_score(self.score, self.activation)
        scores = score(logits, self.class_index)
        if self.against is not None:
            scores = scores - score(logits, self.against)
        return (scores * self.weights.to(scores)).sum()

    def derivative(
        self, logits: Float[Tensor, "some class"], which: Bool[np.ndarray, " voxel"]
    ) -> Float[Tensor, "some class"]:
        """Compute the derivative with respect to the logits of some of the voxels."""
        found = cotangents(self.score, logits, self.class_index, self.activation)
        if self.against is not None:
            found = found - cotangents(self.score, logits, self.against, self.activation)
        return found * self.weights[torch.from_numpy(which)].to(found)[:, None]

    def seen_from(self, box: Box) -> "WeightedScore":
        """Return the same sum on the crop of the grid that a box cuts out."""
        return replace(self, voxels=box.local(self.voxels))


def _shells(
    instance: Instance, grid: Box
) -> tuple[Int[np.ndarray, "_ axis"], Int[np.ndarray, "_ axis"]]:
    """Find the voxels on either side of a domain's border: inside and outside of it."""
    tight = Box.around(instance.voxels)
    around = Box(tuple(a - 1 for a in tight.start), tuple(n + 2 for n in tight.size))
    around = around.inside(grid.size)
    domain = instance.seen_from(around).mask(around.size)
    outer = ndimage.binary_dilation(domain) & ~domain
    inner = ndimage.binary_dilation(outer) & domain
    if not outer.any():
        raise SegxaiError(
            f"instance {instance.label} fills the image and has no border: leave out "
            f"{option('contrast', BORDER)}"
        )
    start = np.asarray(around.start)
    return np.argwhere(inner) + start, np.argwhere(outer) + start
