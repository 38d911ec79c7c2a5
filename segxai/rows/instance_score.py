"""Instance score: one number for an instance, for any Captum attribution to explain."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.geometry import Box
from segxai.rows.mean_row import score_gradient
from segxai.rows.scores import find_score
from segxai.rows.weighted_score import WeightedScore
from segxai.segment.predictor import Predictor, as_predictor
from segxai.types import Activation, Instance


class InstanceScore(nn.Module):
    """One number for each image: the mean score over an instance's domain.

    Lets any Captum attribution explain one instance: `IntegratedGradients(InstanceScore(model,
    instance)).attribute(image)` explains this instance alone.

    Parameters
    ----------
    model : nn.Module
        Maps (batch, channel, *grid) to logits (batch, class, *grid). A `Predictor` brings its own
        windows, and takes the images of a batch one after the other.
    instance : Instance, or a boolean array or tensor of shape (*grid)
        The class and the domain; a mask alone stands for class 1.
    score : {"logit", "margin", "probability"}
        Which score of each voxel is averaged.
    contrast : "border" or int, optional
        Explain a difference instead. "border": the mean over the domain's voxels that touch a voxel
        outside it, minus the mean over the voxels that they touch, by their faces. A number: the
        mean score of the class minus that of the class with this number.
    """

    def __init__(
        self,
        model: nn.Module,
        instance: Instance | ArrayLike,
        score: str = "logit",
        *,
        contrast: str | int | None = None,
    ) -> None:
        super().__init__()
        find_score(score)
        self.model = model
        self.target = instance
        self.instance = Instance.of(instance)
        self.score = score
        self.contrast = contrast

    def forward(self, image: Float[Tensor, "batch channel *grid"]) -> Float[Tensor, " batch"]:
        """Compute the score of each image of the batch.

        Raises
        ------
        SegxaiError
            If the instance lies on another grid than the logits.
        """
        if isinstance(self.model, Predictor):
            return torch.cat([self._values(self.model(one[None])) for one in image])
        return self._values(self.model(image))

    def _values(self, logits: Float[Tensor, "batch class *out"]) -> Float[Tensor, " batch"]:
        weighted = self.weighted(logits.shape[2:])
        index = tuple(torch.from_numpy(weighted.voxels.T))
        chosen = logits[(slice(None), slice(None), *index)].transpose(1, 2)  # batch voxel class
        return torch.stack([weighted.value(one) for one in chosen])

    def weighted(self, shape: Sequence[int] | None) -> WeightedScore:
        """Return the sum over voxels that the score is, on a grid of instances of this shape.

        Raises
        ------
        SegxaiError
            If the instance lies on another grid.
        """
        instance = Instance.of(self.target, shape)
        activation: Activation = getattr(self.model, "activation", "softmax")
        return WeightedScore.of(instance, shape, self.score, self.contrast, activation)

    def gradient(
        self,
        image: Float[Tensor, "batch channel *grid"],
        prepare: Callable[[Tensor], object] | None = None,
    ) -> Float[Tensor, "batch channel *grid"]:
        """Compute the gradient of each image's score, holding the graph of one window at a time.

        Parameters
        ----------
        prepare : callable, optional
            Called with the logits of each window before they are differentiated, to change their
            graph.
        """
        predictor = as_predictor(self.model, image)
        weighted = self.weighted(predictor.domain_shape)
        predictor, box = predictor.crop_to(weighted.voxels)
        local, full = weighted.seen_from(box), torch.zeros_like(image)
        for found, one in zip(full, image, strict=True):
            crop = one[None][box.index]
            found[box.index] = score_gradient(predictor, crop, local, prepare)[0]
        return full

    def cropped(self, image: Float[Tensor, "batch channel *grid"]) -> tuple["InstanceScore", Box]:
        """Return the same score on the part of the image that determines it, and its box."""
        predictor = as_predictor(self.model, image)
        predictor, box = predictor.crop_to(self.weighted(predictor.domain_shape).voxels)
        instance = self.instance.seen_from(box)
        return InstanceScore(predictor, instance, self.score, contrast=self.contrast), box
