"""Files: weights of torchvision's segmentation models, told apart by their names and shapes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai import SegxaiError, load_weights, read_tensors, unwrap, weight_sets
from segxai_natural_image.cases import Feed, Pixels
from segxai_natural_image.extras import library

BACKBONE, AUXILIARY = "backbone.", "aux_classifier."
COUNTER = "num_batches_tracked"  # of batch norm; counts training
SHORTER = 520  # pixels of the input: torchvision's preset for semantic segmentation
LRASPP, MASKS = "classifier.low_classifier.weight", "roi_heads.box_predictor.cls_score.weight"
SEMANTIC = "classifier.4.weight"  # of FCN and DeepLabV3
BUILDERS = {
    SEMANTIC: (
        "deeplabv3_resnet50",
        "deeplabv3_resnet101",
        "deeplabv3_mobilenet_v3_large",
        "fcn_resnet50",
        "fcn_resnet101",
    ),
    LRASPP: ("lraspp_mobilenet_v3_large",),
    MASKS: ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"),
}
KNOWN = "FCN, DeepLabV3, LRASPP and Mask R-CNN"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and the model of torchvision to which they belong.

    Parameters
    ----------
    path : Path
        The file.
    key : str or None
        The set of weights that was asked for, if the file holds several.
    architecture : str
        The name of torchvision's function that builds the model.
    classes : tuple of str
        Names, in the order of the logits.
    auxiliary_classes : int
        Number of classes of the auxiliary head; 0 if the file has none.
    is_frozen : bool
        Whether batch norm was frozen in training: its statistics are then stored differently.
    """

    path: Path
    key: str | None
    architecture: str
    classes: tuple[str, ...]
    auxiliary_classes: int
    is_frozen: bool

    @property
    def finds_instances(self) -> bool:
        """Whether the model finds boxes; otherwise, each logit is a class."""
        return self.architecture in BUILDERS[MASKS]


def read_file(path: Path, key: str | None = None) -> WeightsFile:
    """Find the model of torchvision to which a file of weights belongs.

    Parameters
    ----------
    key : str, optional
        The set of weights to take, if the file holds several; see `unwrap`.

    Raises
    ------
    SegxaiError
        If the file cannot be read without running code, or belongs to another model.
    """
    content = read_tensors(path)
    last = next((name for name in BUILDERS if weight_sets(content, [name])), None)
    if last is None:
        some = next(iter(content), "nothing")
        raise SegxaiError(
            f"{path.name} does not hold weights of a segmentation model of torchvision ({KNOWN}): "
            f"it begins with {some!r}; for a model of transformers give its folder, for your own "
            "model --model package.module:factory"
        )
    tensors = unwrap(content, [last], key=key, name=path.name)
    library("torchvision")
    count = len(tensors[last])
    auxiliary = tensors.get(f"{AUXILIARY}4.weight", torch.empty(0))
    is_frozen = last == MASKS and not any(
        name.startswith(BACKBONE) and name.endswith(COUNTER) for name in tensors
    )
    architecture = _fitting(tensors, BUILDERS[last], count, path)
    return WeightsFile(path, key, architecture, _names(last, count), len(auxiliary), is_frozen)


def load_file(file: WeightsFile) -> nn.Module:
    """Load the file's model in eval mode, without an auxiliary head.

    Raises
    ------
    SegxaiError
        If the weights do not fit after all.
    """
    network: Any = _build(file.architecture, len(file.classes), is_frozen=file.is_frozen)
    if file.auxiliary_classes:
        network.aux_classifier = _auxiliary(file)
    load_weights(network, file.path, f"{file.architecture} of torchvision", key=file.key)
    if file.auxiliary_classes:
        network.aux_classifier = None
    model: nn.Module = network.eval()
    return model


def semantic_feed() -> Feed:
    """Return the feed of torchvision's preset for semantic segmentation."""
    return Feed(("red", "green", "blue"), _preset, "standard deviation")


def _preset(pixels: Pixels) -> Float[np.ndarray, "3 h w"]:
    presets = library("torchvision.transforms._presets")
    preset = presets.SemanticSegmentation(resize_size=SHORTER)
    found: Tensor = preset(torch.from_numpy(pixels.round().astype(np.uint8)))
    return found.numpy()


def _fitting(
    tensors: Mapping[str, Tensor], architectures: tuple[str, ...], count: int, path: Path
) -> str:
    """Find the architecture whose names and shapes are those of the file."""
    found = _shapes(tensors)
    differing: dict[str, list[str]] = {}
    for name in architectures:
        with torch.device("meta"):
            wanted = _shapes(_build(name, count).state_dict())
        differing[name] = sorted({one for one, _ in wanted.items() ^ found.items()})
    nearest = min(differing, key=lambda name: len(differing[name]))
    if not differing[nearest]:
        return nearest
    tensor = differing[nearest][0]
    seen = f"of shape {found[tensor]}" if tensor in found else "missing"
    raise SegxaiError(
        f"{path.name} fits none of torchvision's {', '.join(architectures)}: {nearest} comes "
        f"nearest, but {len(differing[nearest])} tensors differ: {tensor!r}, for one, is {seen}"
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """List the names and shapes of the tensors that a prediction depends on."""
    return {
        name: tuple(one.shape)
        for name, one in tensors.items()
        if not name.startswith(AUXILIARY) and not name.endswith(COUNTER)
    }


def _build(architecture: str, classes: int, *, is_frozen: bool = False) -> nn.Module:
    """Build the model with random weights."""
    models = library("torchvision.models")
    if architecture not in BUILDERS[MASKS]:
        build: Callable[..., nn.Module] = getattr(models.segmentation, architecture)
        return build(weights=None, weights_backbone=None, num_classes=classes)
    build = getattr(models.detection, architecture)
    network: nn.Module = build(weights=None, weights_backbone=None, num_classes=classes)
    for part in network.modules():
        if is_frozen and isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0  # as torchvision sets it for its own weights: `overwrite_eps`
    return network


def _auxiliary(file: WeightsFile) -> nn.Module:
    """Build the head that helps in training only, to be filled and thrown away."""
    first = f"{AUXILIARY}0.weight"
    width = unwrap(read_tensors(file.path), [first], key=file.key)[first].shape[1]
    fcn = library("torchvision.models.segmentation.fcn")
    head: nn.Module = fcn.FCNHead(width, file.auxiliary_classes)
    return head


def _names(last: str, count: int) -> tuple[str, ...]:
    """Name the classes as torchvision's own weights do, if their number is the same."""
    models = library("torchvision.models")
    weights = (
        models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1
        if last == MASKS
        else models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    )
    names = tuple(weights.meta["categories"])
    if len(names) == count:
        return names
    return ("background", *(f"class {n}" for n in range(1, count))) if count > 1 else ("class 0",)
