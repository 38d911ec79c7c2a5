"""CAMs of an instance: three rules of a layer's features A and the gradients g there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from segxai import InstanceCam, Method, SegxaiError, hookimpl
from segxai_captum.explained import Explained, Found, explaining

Maps = Float[Tensor, "1 map *layer"]
Heat = Float[Tensor, "1 1 *layer"]


def gradcam_heat(activations: Maps, gradients: Maps) -> Heat:
    """Compute ReLU(sum_k mean(g^k) A^k): a weight for each feature map."""
    weights = gradients.mean(dim=tuple(range(2, gradients.ndim)), keepdim=True)
    return (weights * activations).sum(dim=1, keepdim=True).relu()


def hirescam_heat(activations: Maps, gradients: Maps) -> Heat:
    """Compute ReLU(sum_k g^k A^k): a weight for each feature map and place."""
    return (gradients * activations).sum(dim=1, keepdim=True).relu()


def layercam_heat(activations: Maps, gradients: Maps) -> Heat:
    """Compute ReLU(sum_k ReLU(g^k) A^k): the same, with what raises the score alone."""
    return (gradients.relu() * activations).sum(dim=1, keepdim=True).relu()


@dataclass(frozen=True)
class Rule:
    """How a CAM weighs features, what it is called, and where it comes from."""

    heat: Callable[[Maps, Maps], Heat]
    title: str
    summary: str
    reference: str


RULES = {
    "gradcam": Rule(
        gradcam_heat,
        "Grad-CAM",
        "heat of a layer: each feature map weighs as its mean gradient; one map, not negative",
        "Selvaraju et al. 2017, arXiv:1610.02391",
    ),
    "hirescam": Rule(
        hirescam_heat,
        "HiResCAM",
        "heat of a layer: features times gradients, place by place; one map, not negative",
        "Draelos and Carin 2020, arXiv:2011.08891",
    ),
    "layercam": Rule(
        layercam_heat,
        "LayerCAM",
        "heat of a layer: features times positive gradients; one map, not negative",
        "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
    ),
}


def cam(rule: Rule, explained: Explained) -> Found:
    """Compute the heat map of an instance at the layer of the options.

    Warns
    -----
    SegxaiWarning
        If the map is 0 everywhere, and why.

    Raises
    ------
    SegxaiError
        If no layer is named, or it does not suit.
    """
    options, score = explained.options, explained.score
    if options.layer is None:
        raise SegxaiError(f"{rule.title} needs a layer: name one")
    method = InstanceCam(
        score.model,
        options.layer,
        rule.heat,
        name=rule.title,
        layout=options.layer_layout,
        score=score.score,
        contrast=score.contrast,
    )
    values = method.attribute(explained.image, instance=score.instance)[0, 0]
    explained.context.tick(1)
    return Found(values, facts={"layer": options.layer, "layer_layout": method.layout})


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the method of this name."""
    if name not in RULES:
        return None
    return explaining(
        partial(cam, RULES[name]),
        unit="arbitrary",
        sign="always: what is seen there raises the score, more where it is larger",
        name=name,
        summary=RULES[name].summary,
        needs_layer=True,
        reference=RULES[name].reference,
    )
