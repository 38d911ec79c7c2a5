"""The adapter of natural images: the embedded coins, or the model of a checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from segxai import Adapter, Case, Detections, InstanceCriteria, SegxaiError, hookimpl
from segxai_natural_image.boxes import detect_boxes, feed
from segxai_natural_image.cases import INPUT, Feed
from segxai_natural_image.coins import coin_adapter, is_coin_checkpoint
from segxai_natural_image.folders import Folder, load_folder, read_folder
from segxai_natural_image.interpolation import CoarseLogits, predict_coarsely
from segxai_natural_image.processors import feed_of
from segxai_natural_image.queries import detect_queries
from segxai_natural_image.weights_files import WeightsFile, load_file, read_file, semantic_feed

Detect = Callable[[nn.Module, Case, InstanceCriteria], Detections]

SMALLEST_PIXELS = 50.0  # of a component that counts as an instance
SURE = 0.5  # of a detection: the default of transformers' `post_process_instance_segmentation`
BACKGROUND = ("background", "__background__", "bg", "unlabeled", "unlabelled", "void", "none")


def adapter_of(checkpoint: Path, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the model in a folder of transformers or in a file of weights.

    Raises
    ------
    SegxaiError
        If there is no such file or folder, or it holds no model that is known here.
    """
    if checkpoint.is_dir():
        return _of_folder(read_folder(checkpoint), weights_key)
    if not checkpoint.is_file():
        raise SegxaiError(
            f"no checkpoint at {checkpoint}; give a folder of transformers, or a file of "
            "torchvision's weights (.pth, .safetensors)"
        )
    if is_coin_checkpoint(checkpoint):
        return coin_adapter(checkpoint, weights_key)
    return _of_file(read_file(checkpoint, weights_key), checkpoint)


def _of_folder(folder: Folder, weights_key: str | None) -> Adapter:
    fed, notes = feed_of(folder.path)
    kind = f"{folder.config.model_type} of transformers"
    detect = partial(detect_queries, classes=folder.classes) if folder.finds_instances else None
    return replace(
        _pictures(fed, folder.classes, partial(load_folder, folder, weights_key), detect),
        weights=folder.weights,
        notes=(_about(kind, folder.finds_instances, len(folder.classes)), *notes),
    )


def _of_file(file: WeightsFile, path: Path) -> Adapter:
    kind = f"{file.architecture} of torchvision"
    fed = feed() if file.finds_instances else semantic_feed()
    detect = partial(detect_boxes, classes=file.classes) if file.finds_instances else None
    return replace(
        _pictures(fed, file.classes, partial(load_file, file), detect),
        weights=path,
        notes=(_about(kind, file.finds_instances, len(file.classes)),),
    )


def _pictures(
    fed: Feed, classes: tuple[str, ...], load: Callable[[], nn.Module], detect: Detect | None
) -> Adapter:
    """Build the adapter of a network of colour pictures: it finds instances, or coarse logits."""
    return Adapter(
        channels=fed.channels,
        classes=classes,
        load_network=load if detect else lambda: CoarseLogits(load()),
        load_case=fed.load,
        criteria=InstanceCriteria(None, SURE)
        if detect
        else InstanceCriteria(_first_object(classes), None, SMALLEST_PIXELS),
        predict=detect or predict_coarsely,
        inputs=(INPUT,),
    )


def _first_object(classes: tuple[str, ...]) -> int:
    """Find the first class that is not background: what a picture shows is not known yet."""
    objects = (number for number, name in enumerate(classes) if name.lower() not in BACKGROUND)
    return next(objects, 0)


def _about(kind: str, finds_instances: bool, classes: int) -> str:
    """Describe what was found in a checkpoint."""
    if finds_instances:
        return (
            f"{kind}, {classes} classes: an instance is a detection ({SURE:g} or surer, unless "
            "--threshold says otherwise), frozen as found on the clean picture; its score is its "
            "mask's logit"
        )
    return f"{kind}, {classes} classes: an instance is a connected component of a class"


@hookimpl
def segxai_adapter(checkpoint: Path | None, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the embedded coins, or of the model of a checkpoint."""
    return coin_adapter(None) if checkpoint is None else adapter_of(checkpoint, weights_key)
