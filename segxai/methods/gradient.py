"""Gradient: the rows of an instance, aggregated to one signed map for each channel."""

from collections.abc import Callable

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.cropping import crop_to_support
from segxai.hookspecs import hookimpl
from segxai.jacobian import find_engine, mean_row, rows
from segxai.method import Method, Settings, ignore
from segxai.plugins import load_aggregator
from segxai.protocols import Aggregator
from segxai.segmentation import Predictor, exact_arithmetic, frozen, whole_image
from segxai.types import Attribution, Instance

Inputs = Tensor | tuple[Tensor, ...]


class InstanceGradient(GradientAttribution):
    """Signed gradient map of one instance: its rows D_v', aggregated over the domain.

    A Captum attribution: `InstanceGradient(model).attribute(image, instance=instance)`; composes
    with `captum.attr.NoiseTunnel`. The model is left as it came.

    Parameters
    ----------
    model : nn.Module
        Maps (1, channel, *grid) to logits (1, class, *grid); a `Predictor` brings its windows.
    aggregator : str or Aggregator
        How the rows become one map: "signed_max" (Eq. 3) or "mean" (Eq. 2).
    score : {"logit", "margin", "probability"}
        Which number of an output voxel is differentiated.
    engine : {"auto", "windowed", "dense"}
        How rows are computed: a matter of speed. "auto" looks which one suits the network.
    batch : int
        Rows computed at once, at most: a matter of memory and speed, never of values.
    tick : callable
        Called with the share of the work done since the last call.

    References
    ----------
    Spagnolo et al., "Instance-level quantitative saliency in multiple sclerosis lesion
    segmentation", Eqs. 2 and 3 for a single noisy copy.
    """

    def __init__(
        self,
        model: nn.Module,
        aggregator: str | Aggregator = "signed_max",
        *,
        score: str = "logit",
        engine: str = "auto",
        batch: int = 16,
        tick: Callable[[float], None] = ignore,
    ) -> None:
        super().__init__(model)
        self.model = model
        self.aggregator = load_aggregator(aggregator) if isinstance(aggregator, str) else aggregator
        self.score = score
        self.engine = engine
        self.batch = batch
        self.tick = tick

    # Captum's NoiseTunnel calls `attribute.__wrapped__`, which only a logged method has.
    @log_usage()
    def attribute(self, inputs: Inputs, instance: Instance | ArrayLike) -> Inputs:
        """The map of one instance, for each image of a batch.

        Parameters
        ----------
        inputs : Tensor of shape (batch, channel, *grid), or a tuple of such
            Tensors of a tuple are joined along their channels: one for each channel gives each
            its own noise level in a NoiseTunnel.
        instance : Instance, or a boolean array or tensor of shape (*grid)
            A bare mask stands for class 1.

        Returns
        -------
        Tensor or tuple
            Like `inputs`, in score per unit of the input; 0 where no row reaches.
        """
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        images = torch.cat([part.detach() for part in parts], dim=1)
        target = Instance.of(instance)
        with frozen(self.model), exact_arithmetic():
            maps = torch.stack([self._map(image[None], target) for image in images])
        split = torch.split(maps, [part.shape[1] for part in parts], dim=1)
        return split if isinstance(inputs, tuple) else split[0]

    def _map(
        self, image: Float[Tensor, "1 channel *grid"], instance: Instance
    ) -> Float[Tensor, "channel *grid"]:
        """The map of one image: computed on the crop that decides the instance."""
        predictor, box = as_predictor(self.model, image).around(instance.row_voxels)
        full = torch.zeros_like(image[0])
        full[box.index] = self._aggregate(predictor, image[box.index], instance.seen_from(box))
        return full

    def _aggregate(
        self, predictor: Predictor, crop: Float[Tensor, "1 channel *crop"], instance: Instance
    ) -> Float[Tensor, "channel *crop"]:
        voxels, index, score = instance.row_voxels, instance.class_index, self.score
        if self.aggregator.linear:
            mean = mean_row(predictor, crop, voxels, class_index=index, score=score)
            self.tick(1.0)
            return mean
        if self.engine == "auto":
            self.engine = find_engine(predictor, crop, voxels)
        state = self.aggregator.start(crop[0])
        batches = rows(
            predictor,
            crop,
            voxels,
            class_index=index,
            score=score,
            engine=self.engine,
            batch=self.batch,
        )
        for batch in batches:
            state = self.aggregator.add(state, batch)
            self.tick(len(batch.values) / len(voxels))
        return self.aggregator.finish(state)


def as_predictor(model: nn.Module, image: Float[Tensor, "batch channel *grid"]) -> Predictor:
    """The model as a predictor: as it is, or one that takes the whole image at once."""
    if isinstance(model, Predictor):
        return model
    return Predictor(model, whole_image(image.shape[2:]))


def gradient(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    settings: Settings,
) -> Attribution:
    """The map of one instance on the clean image."""
    method = InstanceGradient(
        predictor,
        settings.aggregator or "signed_max",
        score=settings.score,
        engine=settings.engine,
        batch=settings.batch,
        tick=settings.tick,
    )
    values = method.attribute(image, instance=instance)[0]
    facts = {"rows": len(instance.row_voxels), "samples": 1, "engine": method.engine}
    whole = Attribution(
        instance.label, values.cpu().numpy(), (0,) * len(values.shape[1:]), facts=facts
    )
    return crop_to_support(whole, instance)


@hookimpl
def segxai_method(name: str) -> Method | None:
    """The plain gradient."""
    return Method(
        name="gradient",
        summary="rows of the instance on the clean image, aggregated: a signed map per channel",
        attribute=gradient,
        aggregator="signed_max",
        reference="Spagnolo et al., Eqs. 2 and 3 with one noiseless copy",
    )
