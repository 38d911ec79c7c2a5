"""Checks of what is found: instances in the embedded case, detections, mirror images."""

from dataclasses import replace

import numpy as np
import torch

from segxai.errors import SegxaiError
from segxai.segment.detections import Detections
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.mirrored import Mirrored
from segxai.segment.predictor import Predictor
from segxai.testing.subject import CheckFailedError, Subject

NOISE = 1e-3  # of the image's spread: too little to change what a detection is


def check_instances(subject: Subject) -> str:
    """Count the instances of the embedded case: a run on it needs at least one."""
    adapter, case = subject.adapter, subject.case
    if case is None:
        return "skipped, there is no embedded case"
    criteria = adapter.criteria
    name = adapter.classes[criteria.logit]
    prediction, segmentation = subject.prediction_of_case
    try:
        found = prediction.instances(segmentation, criteria, replace(case, reference=None))
    except SegxaiError as error:
        raise CheckFailedError(
            f"no instance of class {name!r} is found in it: look at threshold, min_volume_mm3 and "
            "normalisation"
        ) from error
    return f"{len(found)} of class {name!r}"


def check_mirrors(subject: Subject) -> str:
    """Check that images can be mirrored; returns along which axes."""
    axes = subject.adapter.mirror_axes
    rank = subject.image.ndim - 2
    if any(axis not in range(rank) for axis in axes) or len(set(axes)) < len(axes):
        raise CheckFailedError(f"mirror_axes {axes}: give distinct spatial axes, 0 to {rank - 1}")
    with torch.no_grad(), frozen(subject.network), exact_arithmetic():
        layout = subject.predictor.layout
        logits = Predictor(
            Mirrored(subject.network, axes), layout, readout=subject.predictor.readout
        )(subject.image)
    if logits.shape != subject.logits().shape:
        raise CheckFailedError(f"mirrored logits have the shape {tuple(logits.shape)}")
    return f"along {', '.join(map(str, axes))}"


def check_detections(subject: Subject, found: Detections) -> str:
    """Check that each detection is in its place and stays itself when the image changes."""
    _check_lists(subject, found)
    clean = subject.logits()[0]
    inside = [
        float((clean[number][tuple(torch.from_numpy(voxels.T))] > 0).float().mean())
        for number, voxels in enumerate(found.domains)
    ]
    outside = [name for name, share in zip(found.classes, inside, strict=True) if share < 0.5]
    if outside:
        raise CheckFailedError(
            f"{outside[0]}: its logits are not positive in its own domain: does its channel hold "
            "the logits of another detection?"
        )
    _check_frozen(subject, clean)
    return f"{len(found.names)}, {100 * float(np.mean(inside)):.0f} % of their voxels positive"


def _check_lists(subject: Subject, found: Detections) -> None:
    lengths = {len(found.names), len(found.scores), len(found.domains)}
    if len(lengths) > 1:
        raise CheckFailedError("names, scores and domains differ in length")
    unknown = [name for name in found.names if name not in subject.adapter.classes]
    if unknown:
        raise CheckFailedError(f"{unknown[0]!r} is not among the adapter's classes")
    shape = subject.logits().shape[2:]
    for name, voxels in zip(found.classes, found.domains, strict=True):
        if len(voxels) == 0 or voxels.min() < 0 or (voxels >= np.array(shape)).any():
            raise CheckFailedError(f"{name}: its domain is empty, or outside of the logits")


def _check_frozen(subject: Subject, clean: torch.Tensor) -> None:
    """Check that on an image that hardly differs, each channel is nearest to itself."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(subject.image.shape, generator=generator) * subject.image.std()
    with torch.no_grad(), frozen(subject.network), exact_arithmetic():
        noisy = subject.predictor(subject.image + NOISE * noise)[0]
    if noisy.shape != clean.shape:
        raise CheckFailedError(
            f"on a noisy image the logits are {tuple(noisy.shape)}, not {tuple(clean.shape)}: "
            "detections must be frozen on the clean image"
        )
    distance = torch.cdist(noisy.flatten(1), clean.flatten(1))
    own = distance.diagonal()
    if (own > distance.min(dim=1).values * (1 + 1e-3) + 1e-6).any():
        raise CheckFailedError(
            "on a noisy image detections change places: freeze their identity on the clean image"
        )
