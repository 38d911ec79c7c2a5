"""Grad-CAM++ of an instance, and of a class: heat maps of a layer's features."""

from dataclasses import dataclass

import torch
from captum._utils.gradient import compute_layer_gradients_and_eval
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.errors import warn
from segxai.geometry import Box
from segxai.methods.cropping import crop_to_support
from segxai.methods.gradient import as_predictor
from segxai.methods.layers import default_layer_of, find_layer
from segxai.methods.method import Context, Method
from segxai.methods.options import MethodOptions
from segxai.plugins.hookspecs import hookimpl
from segxai.rows.mean_row import logits_at
from segxai.rows.scores import cotangents
from segxai.rows.window_pass import Voxels
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Instance

SMALLEST_DENOMINATOR = 1e-6
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Weights:
    """The coefficients alpha^k[v] of Eq. 7, and how often their denominator is not positive.

    `suspect` is the share of the voxels with a positive gradient whose denominator is 0 or below.
    """

    alpha: Float[Tensor, "1 map *layer"]
    suspect: float


def grad_cam_weights(
    activations: Float[Tensor, "1 map *layer"], gradients: Float[Tensor, "1 map *layer"]
) -> Weights:
    """Compute the coefficients of Eq. 7 with an exponential link.

    With d2y' = g^2 and d3y' = g^3 they are 1 / (2 + sum(A^k) g^k[v]) where g > 0; elsewhere
    ReLU(g) makes them irrelevant, and they are 0. Where the denominator's magnitude is below 1e-6
    they are 0; where it is negative they are kept as they are.
    """
    axes = tuple(range(2, activations.ndim))
    denominator = 2 + activations.sum(dim=axes, keepdim=True) * gradients
    used = gradients > 0
    finite = used & (denominator.abs() >= SMALLEST_DENOMINATOR)
    alpha = torch.where(finite, 1 / torch.where(finite, denominator, 1), 0)
    suspect = float((used & (denominator <= 0)).sum() / used.sum().clamp(min=1))
    return Weights(alpha, suspect)


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
        The layer whose output is the feature maps A^k, of shape (1, map, *layer).
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
        self, model: nn.Module, layer: nn.Module, *, localised: bool = True, score: str = "logit"
    ) -> None:
        LayerAttribution.__init__(self, model, layer)
        GradientAttribution.__init__(self, model)
        self.model = model
        self.localised = localised
        self.score = score
        self.suspect: list[float] = []

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

        Warns
        -----
        SegxaiWarning
            If more than 1 % of the coefficients of a window have a denominator of 0 or below.

        Raises
        ------
        SegxaiError
            If the instance lies on another grid than the model's output.
        """
        self.suspect = []
        with frozen(self.model), exact_arithmetic():
            shape = as_predictor(self.model, inputs).domain_shape
            target = Instance.of(instance, shape)
            maps = torch.stack([self._map(image[None], target) for image in inputs.detach()])
        if max(self.suspect, default=0) > 0.01:
            warn(
                f"Grad-CAM++: {max(self.suspect):.1%} of the coefficients have a denominator of 0 "
                "or below; the heat map is not to be trusted there"
            )
        return maps

    def _map(
        self, image: Float[Tensor, "1 channel *grid"], instance: Instance
    ) -> Float[Tensor, "1 *grid"]:
        predictor, box = as_predictor(self.model, image).crop_to(instance.row_voxels)
        crop, voxels = image[box.index], box.local(instance.row_voxels)
        blended = logits_at(predictor, crop, voxels)
        weights = cotangents(self.score, blended, instance.class_index, predictor.activation)
        full = torch.zeros_like(image[0, :1])
        for window in predictor.layout.windows:
            covered = window.contains(voxels) | (predictor.readout is not None)
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
        inside = window.inside(predictor.layout.shape)
        share = predictor.layout.share(window)
        seen, shared = inside.local(voxels), weights
        if predictor.readout is None:
            shared = weights * share[tuple(torch.from_numpy(seen.T))][:, None]

        classes = torch.nonzero(shared.any(dim=0)).flatten().tolist() or [0]  # others weigh 0

        def summed(window_image: Float[Tensor, "1 channel *inside"]) -> Float[Tensor, " 1"]:
            logits = predictor.window_logits(window_image, window)
            if predictor.readout is None:
                chosen = logits[(0, classes, *torch.from_numpy(seen.T)[:, :, None])]
            else:
                chosen = predictor.readout.at(logits, seen, classes)
            return (chosen * shared[:, classes].to(chosen)).sum()[None]

        leaf = image[inside.index].clone().requires_grad_()
        with torch.enable_grad():
            gradients, activations = compute_layer_gradients_and_eval(summed, self.layer, leaf)
        heat = self._heat(activations[0].detach(), gradients[0].detach())
        return (_resampled(heat, window, predictor.layout.shape) * share.to(heat))[0].to(image)

    def _heat(
        self, activations: Float[Tensor, "1 map *layer"], gradients: Float[Tensor, "1 map *layer"]
    ) -> Float[Tensor, "1 1 *layer"]:
        """Compute the ReLU of the weighted sum of the feature maps (Eq. 4 or 8)."""
        coefficients = grad_cam_weights(activations, gradients)
        self.suspect.append(coefficients.suspect)
        weights = coefficients.alpha * gradients.relu()
        if not self.localised:
            weights = weights.sum(dim=tuple(range(2, weights.ndim)), keepdim=True)
        return (weights * activations).sum(dim=1, keepdim=True).relu()


def _resampled(
    heat: Float[Tensor, "1 1 *layer"], window: Box, shape: tuple[int, ...]
) -> Float[Tensor, "1 1 *inside"]:
    """Resample the heat map linearly to the window's own voxels that lie on the grid."""
    resampled = LayerAttribution.interpolate(
        heat, window.size, interpolate_mode=LINEAR[len(window.size)]
    )
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
    name = options.layer or default_layer_of(predictor, image)
    layer, score = find_layer(predictor.network, name), options.only_score
    method = InstanceGradCamPlusPlus(predictor, layer, localised=localised, score=score)
    values = method.attribute(image, instance=instance)[0, 0]
    context.tick(1.0)
    facts = {"layer": name, "suspect_weights": max(method.suspect)}
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
