"""Grad-CAM++ of an instance, and of a class: heat maps of a layer's features."""

from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.errors import warn
from segxai.methods.cam import InstanceCam, Maps
from segxai.methods.cam_weights import heat_of
from segxai.methods.cropping import crop_to_support
from segxai.methods.default_layer import choose_layer
from segxai.methods.method import Context, Method
from segxai.methods.options import MethodOptions
from segxai.plugins.hookspecs import hookimpl
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Instance


class InstanceGradCamPlusPlus(InstanceCam):
    """Grad-CAM++ heat map of one instance at one layer.

    The map is not negative and has no channel axis. Its units are arbitrary, so maps of different
    instances cannot be compared.

    Parameters
    ----------
    model, layer, layout, score, contrast
        As for `InstanceCam`. Scores are summed over the domain to y' (Eqs. 5 and 9).
    localised : bool
        True keeps the weights of Eq. 10 at their voxel (instance level, Eq. 8); False sums them to
        one for each feature map (class level, Eqs. 4 and 6).

    References
    ----------
    Spagnolo et al., "Instance-level quantitative saliency in multiple sclerosis lesion
    segmentation", Eqs. 4 to 10.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        *,
        layout: str | None = None,
        localised: bool = True,
        score: str = "logit",
        contrast: str | int | None = None,
    ) -> None:
        super().__init__(
            model,
            layer,
            self._heat,
            name="Grad-CAM++",
            layout=layout,
            score=score,
            contrast=contrast,
            sums=True,
        )
        self.localised = localised
        self.suspect: list[float] = []

    @log_usage()
    def attribute(
        self, inputs: Float[Tensor, "batch channel *grid"], instance: Instance | ArrayLike
    ) -> Float[Tensor, "batch 1 *grid"]:
        """Compute the heat map on the image's grid; see `InstanceCam.attribute`.

        Warns
        -----
        SegxaiWarning
            Also if more than 1 % of the coefficients of a window have a denominator of 0 or below.
        """
        self.suspect = []
        maps: Tensor = super().attribute(inputs, instance)
        if max(self.suspect, default=0) > 0.01:
            warn(
                f"Grad-CAM++: {max(self.suspect):.1%} of the coefficients have a denominator of 0 "
                "or below; the heat map is not to be trusted there"
            )
        return maps

    def _heat(self, activations: Maps, gradients: Maps) -> Float[Tensor, "1 1 *layer"]:
        """Compute the heat map of one window's features, and keep what is to be said of it."""
        heat = heat_of(activations, gradients, localised=self.localised)
        self.suspect.append(heat.suspect)
        return heat.values


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
        name,
        layout=options.layer_layout,
        localised=localised,
        score=options.only_score,
        contrast=context.contrast,
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
            takes_contrast=True,
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
