"""Cutting: sections of changed images with the probability that a model gives there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from segxai.experiments.strips import section_around
from segxai.rows.scores import find_score
from segxai.run.prepare import Task
from segxai.types import Instance


@dataclass(frozen=True)
class Frame:
    """A changed image, what it shows, and where the domain is in it."""

    title: str
    image: Float[np.ndarray, "channel *grid"]
    domain: Bool[np.ndarray, "*grid"]


def strip_of(
    task: Task, instance: Instance, frames: Sequence[Frame], title: str
) -> dict[str, np.ndarray]:
    """Cut sections through the domains of frames, of the first channel; see `draw_strip`.

    Empty where the probability is not on the image's grid.
    """
    found: dict[str, np.ndarray] = {}
    for number, frame in enumerate(frames):
        voxels, shape = section_around(frame.domain, task.case.grid)
        place = replace(instance, voxels=voxels, sampled=None)
        probability = probability_at(task, frame.image, place)
        if probability is None:
            return {}
        found[f"image_{number}"] = frame.image[(0, *voxels.T)].reshape(shape)
        found[f"probability_{number}"] = probability.reshape(shape)
        found[f"domain_{number}"] = frame.domain[tuple(voxels.T)].reshape(shape)
    return {**found, "titles": np.array([one.title for one in frames]), "title": np.array(title)}


def probability_at(
    task: Task, image: Float[np.ndarray, "channel *grid"], place: Instance
) -> Float[np.ndarray, " voxel"] | None:
    """Compute the probability of a class at some voxels of a whole image; None behind a readout."""
    if task.predictor.readout is not None:
        return None
    predictor, box = task.predictor.crop_to(place.voxels)
    shown = torch.from_numpy(np.ascontiguousarray(image[box.index]))[None]
    index: Any = (slice(None), *torch.from_numpy(box.local(place.voxels).T))
    with torch.no_grad():
        logits = predictor(shown.to(task.options.compute.device))[0][index].T
        score = find_score("probability", predictor.activation)
        return np.asarray(score(logits, place.class_index).cpu())
