"""Boxes: instances of Mask R-CNN, each the mask logits of one frozen box."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from segxai import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Case,
    Detections,
    InstanceCriteria,
    Layout,
    Predictor,
    Readout,
    whole_image,
)
from segxai_natural_image.cases import Feed, Pixels
from segxai_natural_image.extras import library
from segxai_natural_image.surest import check_size, domains, surest

SHORTER, LONGER = 800, 1333  # pixels of the input: torchvision's defaults for Mask R-CNN
DIVISOR = 32  # of the padded input
PADDING = 1  # cells around a mask before it is pasted


class FrozenBoxes(nn.Module):
    """Mask logits of some boxes of a Mask R-CNN, one channel for each.

    No gradient flows through the boxes, and noise cannot move them.

    Parameters
    ----------
    model : nn.Module
        A Mask R-CNN of torchvision.
    boxes : Tensor of shape (detection, 4)
        x and y of two corners, in pixels of the input.
    labels : Tensor of shape (detection,)
        The class whose mask is taken.
    size : tuple of int
        Size of the input without padding.
    """

    boxes: Tensor
    labels: Tensor

    def __init__(
        self,
        model: nn.Module,
        boxes: Float[Tensor, "detection 4"],
        labels: Int[Tensor, " detection"],
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.register_buffer("boxes", boxes)
        self.register_buffer("labels", labels)

    def forward(self, image: Float[Tensor, "1 3 y x"]) -> Float[Tensor, "1 detection _ _"]:
        """Compute mask logits from the features inside each box."""
        heads: Any = self.model.roi_heads
        pooled = heads.mask_roi_pool(features_of(self.model, image), [self.boxes], [self.size])
        logits: Tensor = heads.mask_predictor(heads.mask_head(pooled))
        return logits[torch.arange(len(self.labels)), self.labels][None]


def feed() -> Feed:
    """Return the feed of the model's own transform: it resizes to its defaults and normalises."""
    return Feed(("red", "green", "blue"), _transformed, "standard deviation")


def detect_boxes(
    model: nn.Module, case: Case, criteria: InstanceCriteria, classes: tuple[str, ...]
) -> Detections:
    """Detect objects whose score reaches the threshold of the criteria, the surest first.

    Masks are those of the model's own output above a probability of 0.5; they may overlap, and each
    detection keeps its own.

    Raises
    ------
    SegxaiError
        If there is no detection, or there are too many for a picture of this size.
    """
    layout, shape = whole_image(case.grid.shape, DIVISOR), case.domain_grid.shape
    image = torch.from_numpy(case.image)[None].to(next(model.parameters()).device)
    found = _likely(find(model, padded(image, layout), case.grid.shape), criteria.threshold)
    boxes = _on_picture(found["boxes"], case)
    masks = _own_masks(found["masks"], boxes, shape)
    kept = surest(found["scores"], found["labels"], masks, classes, criteria.threshold)
    check_size(len(kept), shape)
    size = _pair(case.grid.shape)
    network = FrozenBoxes(model, found["boxes"][kept], found["labels"][kept], size)
    readout = paste(boxes[kept], tuple(found["masks"].shape[2:]), shape)
    return Detections(
        Predictor(network, layout, readout=readout, activation="sigmoid"),
        tuple(classes[int(one)] for one in found["labels"][kept]),
        tuple(float(one) for one in found["scores"][kept]),
        domains(masks[kept]),
    )


def find(
    model: nn.Module, image: Float[Tensor, "1 3 y x"], size: tuple[int, ...]
) -> dict[str, Tensor]:
    """Find boxes, labels, scores and mask probabilities with the model's own heads."""
    parts: Any = model
    images = library("torchvision.models.detection.image_list").ImageList(image, [_pair(size)])
    features = features_of(model, image)
    proposals, _ = parts.rpn(images, features)
    results, _ = parts.roi_heads(features, proposals, images.image_sizes)
    found: dict[str, Tensor] = results[0]
    return found


def _likely(found: dict[str, Tensor], threshold: float | None) -> dict[str, Tensor]:
    """Keep what is sure enough, or else the surest: pasting more masks would take memory."""
    if threshold is None or not len(found["scores"]):
        return found
    kept = found["scores"] >= min(threshold, float(found["scores"].max()))
    return {name: one[kept] for name, one in found.items()}


def features_of(model: nn.Module, image: Float[Tensor, "1 3 y x"]) -> "OrderedDict[str, Tensor]":
    """Compute the feature maps of the backbone, by name."""
    backbone: Any = model.backbone
    found = backbone(image)
    return OrderedDict([("0", found)]) if isinstance(found, Tensor) else found


def padded(image: Float[Tensor, "1 3 y x"], layout: Layout) -> Float[Tensor, "1 3 h w"]:
    """Pad the input with zeros at its end, to the size of the layout's window."""
    y, x = (n - size for n, size in zip(layout.windows[0].size, image.shape[2:], strict=True))
    return nn.functional.pad(image, [0, x, 0, y])


def paste(
    boxes: Float[Tensor, "detection 4"], coarse: tuple[int, ...], shape: tuple[int, ...]
) -> Readout:
    """Build the readout that pastes each mask into its box on the picture; 0 outside.

    The arithmetic is that of torchvision's `paste_masks_in_image`: a border of one cell of zeros,
    a box that grows as much, rounded to whole pixels, and bilinear interpolation.
    """
    heads = library("torchvision.models.detection.roi_heads")
    grown = heads.expand_boxes(boxes.cpu(), (coarse[0] + 2 * PADDING) / coarse[0]).long().tolist()
    y = [_pasted(first, last, coarse[0], shape[0]) for _, first, _, last in grown]
    x = [_pasted(first, last, coarse[1], shape[1]) for first, _, last, _ in grown]
    return Readout((torch.stack(y), torch.stack(x)))


def _pasted(first: int, last: int, cells: int, size: int) -> Float[Tensor, "out coarse"]:
    """Build the matrix from a box's cells to pixels `first` to `last` along one axis."""
    length = max(last - first + 1, 1)
    unit = torch.eye(cells + 2 * PADDING)[None]
    inside = nn.functional.interpolate(unit, size=length, mode="linear")[0].T
    matrix = torch.zeros(size, cells)
    start, stop = max(first, 0), min(last + 1, size)
    if start < stop:
        kept = inside[start - first : stop - first]
        matrix[start:stop] = kept[:, PADDING : PADDING + cells]
    return matrix


def _own_masks(
    probability: Float[Tensor, "detection 1 _ _"],
    boxes: Float[Tensor, "detection 4"],
    shape: tuple[int, ...],
) -> Bool[Tensor, "detection y x"]:
    """Find where the model's own output has a probability above 0.5."""
    heads = library("torchvision.models.detection.roi_heads")
    pasted: Tensor = heads.paste_masks_in_image(probability, boxes, shape)
    return pasted[:, 0] > 0.5


def _on_picture(boxes: Float[Tensor, "detection 4"], case: Case) -> Float[Tensor, "detection 4"]:
    resize = library("torchvision.models.detection.transform").resize_boxes
    found: Tensor = resize(boxes, case.grid.shape, case.domain_grid.shape)
    return found


def _transformed(pixels: Pixels) -> Float[np.ndarray, "3 h w"]:
    module = library("torchvision.models.detection.transform")
    preset = module.GeneralizedRCNNTransform(
        SHORTER, LONGER, list(IMAGENET_MEAN), list(IMAGENET_STD)
    )
    image, _ = preset.resize(preset.normalize(torch.from_numpy(pixels / np.float32(255))))
    return np.asarray(image.numpy())


def _pair(shape: tuple[int, ...]) -> tuple[int, int]:
    y, x = shape
    return y, x
