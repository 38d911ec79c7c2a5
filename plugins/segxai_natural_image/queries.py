"""Queries: instances of Mask2Former and MaskFormer, each the mask logits of one frozen query."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from segxai import Case, Detections, InstanceCriteria, Predictor, Readout, whole_image
from segxai_natural_image.interpolation import nearest
from segxai_natural_image.surest import check_size, domains, surest

ENLARGED = {"mask2former": (384, 384)}  # its post-processing first resizes mask logits to this


class Queries(nn.Module):
    """Mask logits of some queries of a model, one channel for each.

    Parameters
    ----------
    model : nn.Module
        A model of transformers whose output has `masks_queries_logits`.
    numbers : Tensor of int
        Which queries, in the order of the channels.
    """

    numbers: Tensor

    def __init__(self, model: nn.Module, numbers: Int[Tensor, " detection"]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("numbers", numbers)

    def forward(self, image: Float[Tensor, "1 3 y x"]) -> Float[Tensor, "1 detection _ _"]:
        """Compute the mask logits of the queries, whatever their classes become under noise."""
        logits: Tensor = self.model(pixel_values=image).masks_queries_logits
        return logits[:, self.numbers]


@dataclass(frozen=True)
class Candidates:
    """The most probable pairs of a query and a class, as many as there are queries.

    Parameters
    ----------
    query, label : Tensor of int
        Which query, and its class.
    score : Tensor
        Probability of the class, times the mean probability in the mask.
    inside : Tensor of bool
        The mask, at the resolution of the post-processing.
    """

    query: Int[Tensor, " candidate"]
    label: Int[Tensor, " candidate"]
    score: Float[Tensor, " candidate"]
    inside: Bool[Tensor, "candidate y x"]


def detect_queries(
    model: nn.Module, case: Case, criteria: InstanceCriteria, classes: tuple[str, ...]
) -> Detections:
    """Detect instances as the model's own `post_process_instance_segmentation` does.

    The threshold of the criteria is the threshold of that function. Masks are its binary maps:
    they may overlap, and each detection keeps its own.

    Raises
    ------
    SegxaiError
        If there is no detection, or there are too many for a picture of this size.
    """
    config: Any = model.config
    image = torch.from_numpy(case.image)[None].to(next(model.parameters()).device)
    output: Any = model(pixel_values=image)
    logits, shape = output.masks_queries_logits, case.domain_grid.shape
    found = candidates(output.class_queries_logits[0], _enlarged(logits, config.model_type)[0])
    kept = surest(found.score, found.label, found.inside, classes, criteria.threshold)
    check_size(len(kept), shape)
    readout = readout_of(config.model_type, tuple(logits.shape[2:]), shape)
    queries = Queries(model, found.query[kept])
    layout = whole_image(case.grid.shape)
    masks = functional.interpolate(found.inside[kept][None].float(), size=shape)[0] > 0
    return Detections(
        Predictor(queries, layout, readout=readout, activation="sigmoid"),
        tuple(classes[int(one)] for one in found.label[kept]),
        tuple(float(one) for one in found.score[kept]),
        domains(masks),
    )


def candidates(
    classes: Float[Tensor, "query class_and_none"], masks: Float[Tensor, "query y x"]
) -> Candidates:
    """List what transformers' post-processing chooses from, in its order and with its scores."""
    probability = classes.softmax(dim=-1)[:, :-1]
    top, place = probability.flatten().topk(len(classes))
    query, label = place // probability.shape[1], place % probability.shape[1]
    inside = masks[query] > 0
    certain = (masks[query].sigmoid() * inside).flatten(1).sum(1)
    return Candidates(query, label, top * certain / (inside.flatten(1).sum(1) + 1e-6), inside)


def readout_of(kind: str, coarse: tuple[int, ...], shape: tuple[int, ...]) -> Readout:
    """Build the readout from mask logits to the picture; the mask is where it is positive."""
    if kind not in ENLARGED:
        return _nearest(coarse, shape)
    return Readout.linear(coarse, ENLARGED[kind]).then(_nearest(ENLARGED[kind], shape))


def _nearest(coarse: tuple[int, ...], shape: tuple[int, ...]) -> Readout:
    return Readout(tuple(nearest(n, size)[None] for n, size in zip(coarse, shape, strict=True)))


def _enlarged(logits: Float[Tensor, "1 query _ _"], kind: str) -> Float[Tensor, "1 query y x"]:
    if kind not in ENLARGED:
        return logits
    return functional.interpolate(logits, size=ENLARGED[kind], mode="bilinear")
