"""What is explained: the score of an instance, on the part of the image that determines it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from segxai import (
    Attribution,
    Box,
    Case,
    Context,
    Instance,
    InstanceScore,
    Method,
    MethodOptions,
    Predictor,
    crop_to_support,
    exact_arithmetic,
    frozen,
)


@dataclass(frozen=True)
class Explained:
    """The score of an instance, and all that a method computes its map from.

    Parameters
    ----------
    score : InstanceScore
        On the part of the image that determines it.
    image : Tensor of shape (1, channel, *box)
        That part.
    box : Box
        Where it lies in the whole image.
    whole : Tensor of shape (1, channel, *grid)
        The whole image.
    case : Case
        The image's grid and more.
    options, context
        As the method got them.
    """

    score: InstanceScore
    image: Float[Tensor, "1 channel *box"]
    box: Box
    whole: Float[Tensor, "1 channel *grid"]
    case: Case
    options: MethodOptions
    context: Context

    def on(self, box: Box) -> Float[Tensor, "1 channel *other"]:
        """Return the image on another box."""
        return self.whole[box.index].detach()


@dataclass(frozen=True)
class Found:
    """The map of an instance, its standard error and its facts.

    It lies on the box of its `Explained`, unless it names another.
    """

    values: Float[Tensor, "*map"]
    standard_error: Float[Tensor, "*map"] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    box: Box | None = None


Compute = Callable[[Explained], Found]


def explaining(compute: Compute, *, unit: str, sign: str, **more: Any) -> Method:
    """Build a method from the function that computes its map.

    Parameters
    ----------
    unit : str
        Of the map, see `Attribution`.
    sign : str
        What a value above 0 says.
    more
        Other fields of the method.
    """
    attribute = partial(_attribute, compute, unit, sign)
    return Method(attribute=attribute, takes_contrast=True, **more)


def _attribute(
    compute: Compute,
    unit: str,
    sign: str,
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    case = context.case or Case.of_array(image[0].cpu().numpy())
    with frozen(predictor), exact_arithmetic(tf32=context.numerics.precision == "tf32"):
        whole = InstanceScore(predictor, instance, options.only_score, contrast=context.contrast)
        score, box = whole.cropped(image)
        crop = image[box.index].detach()
        found = compute(Explained(score, crop, box, image, case, options, context))
    error = found.standard_error
    attribution = Attribution(
        instance.label,
        found.values.cpu().numpy(),
        (found.box or box).start,
        None if error is None else error.cpu().numpy(),
        {"above_0": sign, **found.facts},
        unit,
    )
    return crop_to_support(attribution, predictor.on_image(instance))
