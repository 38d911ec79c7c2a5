"""CAMs of an instance: heat maps of a layer's features, by any rule, through windows."""

from collections.abc import Callable
from dataclasses import replace

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.errors import warn
from segxai.geometry import Box
from segxai.methods.layer_layout import LayerLayout
from segxai.methods.layers import features_of, find_layer, layout_of, name_of
from segxai.rows.mean_row import logits_at
from segxai.rows.weighted_score import WeightedScore
from segxai.rows.window_pass import Voxels, forward_pass
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor, as_predictor
from segxai.types import Instance

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}

Maps = Float[Tensor, "1 map *layer"]
Heat = Callable[[Maps, Maps], Float[Tensor, "1 1 *layer"]]


class InstanceCam(LayerAttribution, GradientAttribution):
    """Heat map of one instance at one layer, by a rule of a layer's features and their gradients.

    A Captum layer attribution. Each window that covers the instance makes its own heat map, with
    the logits weighted by the window's share in the blend; the heat maps are resampled to the
    window and blended by the same shares. The map has no channel axis.

    Parameters
    ----------
    model : nn.Module
        Maps (1, channel, *grid) to logits (1, class, *grid); a `Predictor` brings its own windows.
    layer : nn.Module or str
        The layer, or its name, whose output is the feature maps A^k. Of a layer that returns
        several tensors it is the one that the logits depend on.
    heat : callable
        Maps the features (1, map, *layer) and the gradient of the score there to their heat
        (1, 1, *layer).
    name : str
        Of the rule, in warnings.
    layout : str, optional
        Where the maps are in the layer's output: "channels_first" (1, map, *layer),
        "channels_last" (1, *layer, map), "tokens" (1, token, map), or "tokens:14,14" with the
        tokens along each axis. Found by a trial on the first image if not given.
    score : {"logit", "margin", "probability"}
        Which number of an output voxel counts.
    contrast : "border" or int, optional
        Explain a difference; see `InstanceScore`.
    sums : bool
        Whether scores are summed over the domain; else it is their mean.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        heat: Heat,
        *,
        name: str = "CAM",
        layout: str | None = None,
        score: str = "logit",
        contrast: str | int | None = None,
        sums: bool = False,
    ) -> None:
        network = model.network if isinstance(model, Predictor) else model
        found = find_layer(network, layer) if isinstance(layer, str) else layer
        LayerAttribution.__init__(self, model, found)
        GradientAttribution.__init__(self, model)
        self.model = model
        self.heat = heat
        self.name = name
        self.layout = layout
        self.score = score
        self.contrast = contrast
        self.sums = sums
        self.nothing: list[str] = []

    @log_usage()
    def attribute(
        self, inputs: Float[Tensor, "batch channel *grid"], instance: Instance | ArrayLike
    ) -> Float[Tensor, "batch 1 *grid"]:
        """Compute the heat map on the image's grid, for each image of a batch.

        Parameters
        ----------
        inputs : Tensor of shape (batch, channel, *grid)
        instance : Instance, or a boolean array or tensor of shape (*grid)
            A bare mask stands for class 1.

        Raises
        ------
        SegxaiError
            If the instance lies on another grid than the model's output, or the layer's output is
            not what the method needs, or its layout cannot be told.

        Warns
        -----
        SegxaiWarning
            If the map is 0 everywhere, or if the layer runs more than once.
        """
        self.nothing = []
        with frozen(self.model), exact_arithmetic():
            shape = as_predictor(self.model, inputs).domain_shape
            target = Instance.of(instance, shape)
            maps = torch.stack([self._map(image[None], target) for image in inputs.detach()])
        if self.nothing and all(self.nothing):
            reasons = "; ".join(dict.fromkeys(self.nothing))
            warn(f"{self.name}: the heat map is 0 everywhere: {reasons}; name another layer")
        return maps

    def _map(
        self, image: Float[Tensor, "1 channel *grid"], instance: Instance
    ) -> Float[Tensor, "1 *grid"]:
        predictor = as_predictor(self.model, image)
        name = name_of(predictor.network, self.layer)
        if self.layout is None:
            self.layout = str(layout_of(predictor, image, name))
        whole = self._weighted(predictor, instance)
        predictor, box = predictor.crop_to(whole.voxels)
        crop, weighted = image[box.index], whole.seen_from(box)
        blended = logits_at(predictor, crop, weighted.voxels)
        everywhere = torch.ones(len(weighted.voxels), dtype=torch.bool).numpy()
        weights = weighted.derivative(blended, everywhere)
        full = torch.zeros_like(image[0, :1])
        for window in predictor.layout.windows:
            covered = predictor.covers(window, weighted.voxels)
            inside = window.inside(predictor.layout.shape)
            full[box.index][inside.index] += self._window_map(
                predictor,
                crop,
                window,
                weighted.voxels[covered],
                weights[torch.from_numpy(covered)],
            )
        return full

    def _weighted(self, predictor: Predictor, instance: Instance) -> WeightedScore:
        mean = WeightedScore.of(
            instance, predictor.domain_shape, self.score, self.contrast, predictor.activation
        )
        return replace(mean, weights=mean.weights * len(mean.voxels)) if self.sums else mean

    def _window_map(
        self,
        predictor: Predictor,
        image: Float[Tensor, "1 channel *crop"],
        window: Box,
        voxels: Voxels,
        weights: Float[Tensor, "voxel class"],
    ) -> Float[Tensor, "1 *inside"]:
        """Compute one window's heat map, weighted by its share in the blend."""

        def summed() -> Float[Tensor, ""]:
            one = forward_pass(predictor, image, window)
            shared = weights * one.shares(voxels)
            classes = torch.nonzero(shared.any(dim=0)).flatten().tolist() or [0]  # others weigh 0
            chosen = one.outputs(voxels, classes)
            return (chosen * shared[:, classes].to(chosen)).sum()

        name, layout = name_of(predictor.network, self.layer), LayerLayout.of(str(self.layout))
        features = features_of(name, self.layer, summed)
        if features.runs > 1:
            warn(
                f"{self.name}: layer {name!r} runs {features.runs} times in each pass; the heat "
                "map is that of its last run"
            )
        layout = layout.fitted(features.activations.shape, window.size)
        maps = layout.maps(features.activations), layout.maps(features.gradients)
        heat = self.heat(*maps)
        self.nothing.append("" if heat.any() else why_nothing(*maps))
        share = predictor.layout.share(window).to(heat)
        return (_resampled(heat, window, predictor.layout.shape) * share)[0].to(image)


def why_nothing(activations: Maps, gradients: Maps) -> str:
    """Explain why a heat map is 0 everywhere."""
    if not activations.any():
        return "the layer's features are all 0"
    if not gradients.any():
        return "the score does not depend on the layer's features"
    if not (gradients > 0).any():
        return "no feature of the layer raises the score: its gradients are all 0 or below"
    return "the weighted sum of the layer's features is nowhere above 0"


def _resampled(
    heat: Float[Tensor, "1 1 *layer"], window: Box, shape: tuple[int, ...]
) -> Float[Tensor, "1 1 *inside"]:
    """Resample the heat map linearly to the window's own voxels that lie on the grid."""
    axes = len(window.size)
    if heat.ndim < axes + 2:  # of a network of slices
        kept = iter(heat.shape[2:])
        heat = heat.reshape(1, 1, *(1 if n == 1 else next(kept) for n in window.size))
    resampled = LayerAttribution.interpolate(heat, window.size, interpolate_mode=LINEAR[axes])
    part: Tensor = resampled[window.inside(shape).seen_from(window).index]
    return part
