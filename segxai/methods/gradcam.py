"""Grad-CAM++ of an instance, and of a class: heat maps of a layer's features."""

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.errors import warn
from segxai.geometry import Box
from segxai.methods.cam_weights import heat_of
from segxai.methods.cropping import crop_to_support
from segxai.methods.default_layer import choose_layer
from segxai.methods.gradient import as_predictor
from segxai.methods.layer_layout import LayerLayout
from segxai.methods.layers import features_of, find_layer, layout_of, name_of
from segxai.methods.method import Context, Method
from segxai.methods.options import MethodOptions
from segxai.plugins.hookspecs import hookimpl
from segxai.rows.mean_row import logits_at
from segxai.rows.scores import cotangents
from segxai.rows.window_pass import Voxels, forward_pass
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Instance

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class InstanceGradCamPlusPlus(LayerAttribution, GradientAttribution):
    """Grad-CAM++ heat map of one instance at one layer.

    A Captum layer attribution. Each window that covers the instance makes its own heat map, with
    the logits weighted by the window's share in the blend; the heat maps are resampled to the
    window and blended by the same shares. The map is not negative and has no channel axis. Its
    units are arbitrary, so maps of different instances cannot be compared.

    Parameters
    ----------
    model : nn.Module
        Maps (1, channel, *grid) to logits (1, class, *grid); a `Predictor` brings its own windows.
    layer : nn.Module
        The layer whose output is the feature maps A^k. Of a layer that returns several tensors it
        is the one that the logits depend on.
    layout : str, optional
        Where the maps are in the layer's output: "channels_first" (1, map, *layer),
        "channels_last" (1, *layer, map), "tokens" (1, token, map), or "tokens:14,14" with the
        tokens along each axis. Found by a trial on the first image if not given.
    localised : bool
        True keeps the weights of Eq. 10 at their voxel (instance level, Eq. 8); False sums them to
        one for each feature map (class level, Eqs. 4 and 6).
    score : {"logit", "margin", "probability"}
        Which number of an output voxel is summed over the domain to y' (Eqs. 5 and 9).

    References
    ----------
    Spagnolo et al., "Instance-level quantitative saliency in multiple sclerosis lesion
    segmentation", Eqs. 4 to 10.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        *,
        layout: str | None = None,
        localised: bool = True,
        score: str = "logit",
    ) -> None:
        LayerAttribution.__init__(self, model, layer)
        GradientAttribution.__init__(self, model)
        self.model = model
        self.localised = localised
        self.score = score
        self.layout = layout
        self.suspect: list[float] = []
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
            If more than 1 % of the coefficients of a window have a denominator of 0 or below, if
            the map is 0 everywhere, or if the layer runs more than once.
        """
        self.suspect, self.nothing = [], []
        with frozen(self.model), exact_arithmetic():
            shape = as_predictor(self.model, inputs).domain_shape
            target = Instance.of(instance, shape)
            maps = torch.stack([self._map(image[None], target) for image in inputs.detach()])
        if max(self.suspect, default=0) > 0.01:
            warn(
                f"Grad-CAM++: {max(self.suspect):.1%} of the coefficients have a denominator of 0 "
                "or below; the heat map is not to be trusted there"
            )
        if self.nothing and all(self.nothing):
            reasons = "; ".join(dict.fromkeys(self.nothing))
            warn(f"Grad-CAM++: the heat map is 0 everywhere: {reasons}; name another layer")
        return maps

    def _map(
        self, image: Float[Tensor, "1 channel *grid"], instance: Instance
    ) -> Float[Tensor, "1 *grid"]:
        predictor = as_predictor(self.model, image)
        name = name_of(predictor.network, self.layer)
        if self.layout is None:
            self.layout = str(layout_of(predictor, image, name))
        predictor, box = predictor.crop_to(instance.row_voxels)
        crop, voxels = image[box.index], box.local(instance.row_voxels)
        blended = logits_at(predictor, crop, voxels)
        weights = cotangents(self.score, blended, instance.class_index, predictor.activation)
        full = torch.zeros_like(image[0, :1])
        for window in predictor.layout.windows:
            covered = predictor.covers(window, voxels)
            inside = window.inside(predictor.layout.shape)
            full[box.index][inside.index] += self._window_map(
                predictor, crop, window, voxels[covered], weights[torch.from_numpy(covered)]
            )
        return full

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
                f"Grad-CAM++: layer {name!r} runs {features.runs} times in each pass; the heat map "
                "is that of its last run"
            )
        layout = layout.fitted(features.activations.shape, window.size)
        heat = self._heat(layout.maps(features.activations), layout.maps(features.gradients))
        share = predictor.layout.share(window).to(heat)
        return (_resampled(heat, window, predictor.layout.shape) * share)[0].to(image)

    def _heat(
        self, activations: Float[Tensor, "1 map *layer"], gradients: Float[Tensor, "1 map *layer"]
    ) -> Float[Tensor, "1 1 *layer"]:
        """Compute the heat map of one window's features, and keep what is to be said of it."""
        heat = heat_of(activations, gradients, localised=self.localised)
        self.suspect.append(heat.suspect)
        self.nothing.append(heat.nothing)
        return heat.values


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


def _grad_cam(
    predictor: Predictor,
    image: Tensor,
    instance: Instance,
    options: MethodOptions,
    context: Context,
    *,
    localised: bool,
) -> Attribution:
    name = options.layer or choose_layer(predictor, image, instance)
    method = InstanceGradCamPlusPlus(
        predictor,
        find_layer(predictor.network, name),
        layout=options.layer_layout,
        localised=localised,
        score=options.only_score,
    )
    values = method.attribute(image, instance=instance)[0, 0]
    context.tick(1.0)
    facts = {
        "layer": name,
        "layer_layout": method.layout,
        "suspect_weights": max(method.suspect),
    }
    origin = (0,) * values.ndim
    whole = Attribution(instance.label, values.cpu().numpy(), origin, facts=facts, unit="arbitrary")
    return crop_to_support(whole, predictor.on_image(instance))


def grad_cam(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Compute the heat map of one instance (Eqs. 8 to 10)."""
    return _grad_cam(predictor, image, instance, options, context, localised=True)


def class_grad_cam(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Compute the heat map of all voxels of a class (Eqs. 4 to 7)."""
    return _grad_cam(predictor, image, instance, options, context, localised=False)


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return Grad-CAM++ of an instance, or its class-level baseline."""
    if name == "gradcam++":
        return Method(
            name=name,
            summary="Grad-CAM++ heat map of the instance at a layer: one map, not negative",
            attribute=grad_cam,
            needs_layer=True,
            reference="Spagnolo et al., Eqs. 8 to 10",
        )
    return Method(
        name="class_gradcam++",
        summary="baseline: Grad-CAM++ of all voxels of the class at once, not of an instance",
        attribute=class_grad_cam,
        scope="class",
        needs_layer=True,
        reference="Spagnolo et al., Eqs. 4 to 7",
    )
