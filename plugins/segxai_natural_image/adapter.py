"""The adapter of natural images: the embedded coins, or the model of a checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from torch import nn

from segxai import Adapter, Case, Detections, InstanceCriteria, SegxaiError, hookimpl
from segxai_natural_image.boxes import detect_boxes, feed
from segxai_natural_image.cases import INPUT, Feed, load_mask
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


def adapter_of(checkpoint: Path, name: str) -> Adapter:
    """Build the adapter of the model in a folder of transformers or in a file of weights.

    Raises
    ------
    SegxaiError
        If there is no such file or folder, or it holds no model that is known here.
    """
    if checkpoint.is_dir():
        return _of_folder(read_folder(checkpoint), name)
    if not checkpoint.is_file():
        raise SegxaiError(
            f"no checkpoint at {checkpoint}; give a folder of transformers, or a file of "
            "torchvision's weights (.pth, .safetensors)"
        )
    if is_coin_checkpoint(checkpoint):
        return coin_adapter(name)
    return _of_file(read_file(checkpoint), name)


def _of_folder(folder: Folder, name: str) -> Adapter:
    fed, notes = feed_of(folder.path)
    kind = f"{folder.config.model_type} of transformers"
    adapter = replace(
        _pictures(name, fed, folder.classes),
        weights=lambda checkpoint: folder.weights,
        notes=(_about(kind, folder.finds_instances, len(folder.classes)), *notes),
    )
    detect = partial(detect_queries, classes=folder.classes) if folder.finds_instances else None
    return _with_network(adapter, partial(load_folder, folder), detect)


def _of_file(file: WeightsFile, name: str) -> Adapter:
    kind = f"{file.architecture} of torchvision"
    fed = feed() if file.finds_instances else semantic_feed()
    adapter = replace(
        _pictures(name, fed, file.classes),
        notes=(_about(kind, file.finds_instances, len(file.classes)),),
    )
    detect = partial(detect_boxes, classes=file.classes) if file.finds_instances else None
    return _with_network(adapter, partial(load_file, file), detect)


def _with_network(
    adapter: Adapter, load: Callable[[], nn.Module], detect: Detect | None
) -> Adapter:
    """Add the network to an adapter; it finds instances itself or gives coarse logits."""
    if detect is not None:
        return replace(
            adapter,
            load_network=lambda checkpoint: load(),
            detect=detect,
            threshold=SURE,
            min_volume_mm3=0.0,
        )
    return replace(
        adapter,
        load_network=lambda checkpoint: CoarseLogits(load()),
        predictor=predict_coarsely,
    )


def _pictures(name: str, fed: Feed, classes: tuple[str, ...]) -> Adapter:
    """Build what the adapters of all colour pictures share; the network is still missing."""
    return Adapter(
        name=name,
        channels=fed.channels,
        classes=classes,
        load_network=_no_network,
        load_case=fed.load,
        load_labels=load_mask,
        target_class=_first_object(classes),
        inputs=(INPUT,),
        threshold=None,
        min_volume_mm3=SMALLEST_PIXELS,
    )


def _no_network(checkpoint: Path | None) -> NoReturn:
    raise ValueError("the adapter is not finished")


def _first_object(classes: tuple[str, ...]) -> str:
    """Return the first class that is not background: what a picture shows is not known yet."""
    objects = (name for name in classes if name.lower() not in BACKGROUND)
    return next(objects, classes[0])


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
def segxai_adapter(name: str) -> Adapter:
    """Build the adapter of the embedded coins, which can load other models from checkpoints."""
    embedded = coin_adapter(name)
    return replace(embedded, for_checkpoint=partial(adapter_of, name=name))
