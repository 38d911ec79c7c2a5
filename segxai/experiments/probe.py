"""Probing: the score of an instance's domain on images that were changed around or in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from segxai.errors import SegxaiError
from segxai.experiments.glimpses import Glimpse, blended, glimpses_of, gradients_of_means
from segxai.geometry import Box
from segxai.methods.cropping import on_map
from segxai.rows.mean_row import logits_at, mean_row
from segxai.run.prepare import Task
from segxai.run.restore import Places, task_on_stored_image
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.segment.segmentation import Segmentation
from segxai.store.reader import case_of, domains_of
from segxai.store.schema import group
from segxai.types import Instance, Progress, Quiet

SAME_PROBABILITY = 1e-3  # results store the mean as the model gave it on the clean image


@dataclass(frozen=True)
class DomainScore:
    """What a model says about a domain: means over its voxels, and whether it is detected.

    Parameters
    ----------
    logit, probability : float
        Mean over the domain of the class's logit and of its probability.
    max_probability : float
        The largest probability in the domain.
    detected : bool
        Whether at least one voxel of the domain is predicted (paper, section 2.5).
    """

    logit: float
    probability: float
    max_probability: float
    detected: bool

    @property
    def columns(self) -> dict[str, Any]:
        """The same as columns of a table."""
        return {
            "mean_logit": self.logit,
            "mean_probability": self.probability,
            "max_probability": self.max_probability,
            "detected": self.detected,
        }


@dataclass(frozen=True)
class Probe:
    """A model, cropped to the windows that see a domain.

    Parameters
    ----------
    task : Task
        The model, prepared.
    predictor : Predictor
        Cropped to those windows.
    box : Box
        The part of the image that determines the domain's logits.
    instance : Instance
        The domain, on the grid of the image's box, or behind a readout on that of the output.
    near : Instance
        The same on the grid of the image, in the box: the nearest voxels where grids differ.
    glimpses : tuple of Glimpse
        The parts of the box that determine the domain's logits; none behind a readout.
    """

    task: Task
    predictor: Predictor
    box: Box
    instance: Instance
    near: Instance
    glimpses: tuple[Glimpse, ...] = ()

    @classmethod
    def of(cls, task: Task, instance: Instance) -> "Probe":
        """Crop the model of a task to an instance."""
        predictor, box = task.predictor.crop_to(instance.voxels)
        near = on_map(instance, task.case, box).seen_from(box)
        if predictor.readout is not None:
            return cls(task, predictor, box, instance, near)
        found = glimpses_of(predictor, task.image[box.index], near.voxels)
        seen = Box.spanning(one.box for one in found)
        glimpses = tuple(replace(one, box=one.box.seen_from(seen)) for one in found)
        near = near.seen_from(seen)
        start = tuple(a + b for a, b in zip(box.start, seen.start, strict=True))
        return cls(task, predictor, Box(start, seen.size), near, near, glimpses)

    @property
    def image(self) -> Float[np.ndarray, "channel *box"]:
        """The image in the box."""
        return self.task.case.image[self.box.index]

    @property
    def domain(self) -> Bool[np.ndarray, "*box"]:
        """Where the domain is in the box."""
        return self.near.mask(self.box.size)

    @property
    def distance(self) -> Float[np.ndarray, "*box"]:
        """Distance of each voxel's centre in the box to the nearest of the domain, in mm."""
        spacing = self.task.case.grid.spacing
        return np.asarray(ndimage.distance_transform_edt(~self.domain, sampling=spacing))

    def score(
        self, image: Float[np.ndarray, "channel *box"], some: Int[np.ndarray, " some"] | None = None
    ) -> DomainScore:
        """Score the domain, or some of its voxels by number, on an image of the box's size."""
        shown = self._tensor(image)
        if self.glimpses:
            logits = blended(self.glimpses, shown)
        else:
            logits = logits_at(self.predictor, shown, self.instance.voxels)
        return self._score_of(logits.numpy().T if some is None else logits.numpy()[some].T)

    def _tensor(self, image: Float[np.ndarray, "channel *box"]) -> Float[Tensor, "1 channel *box"]:
        plain = np.ascontiguousarray(image, dtype=np.float32)
        return torch.from_numpy(plain)[None].to(self.task.options.compute.device)

    def _score_of(self, logits: Float[np.ndarray, "class voxel"]) -> DomainScore:
        index, criteria = self.instance.class_index, self.task.criteria
        found = Segmentation.of(logits, self.task.prediction.classes, self.predictor.activation)
        probability = found.probability(index)
        is_semantic = self.task.prediction.explained(criteria) is not None
        threshold = criteria.threshold if is_semantic else None
        return DomainScore(
            logit=float(logits[index].mean()),
            probability=float(probability.mean()),
            max_probability=float(probability.max()),
            detected=bool(found.mask(index, threshold).any()),
        )

    def gradients(
        self, image: Float[np.ndarray, "channel *box"], *scores: str
    ) -> tuple[list[Float[np.ndarray, "channel *box"]], DomainScore]:
        """Compute the gradient of each mean score of the domain, and score the domain.

        The gradients are maps of the mean aggregator.
        """
        index, shown = self.instance.class_index, self._tensor(image)
        if not self.glimpses:
            voxels = self.instance.voxels
            maps = [
                mean_row(self.predictor, shown, voxels, class_index=index, score=score)
                for score in scores
            ]
            return [one.cpu().numpy() for one in maps], self.score(image)
        found, logits = gradients_of_means(self.glimpses, shown, scores, index)
        return [one[0].cpu().numpy() for one in found], self._score_of(logits.numpy().T)

    def influence(self) -> Float[np.ndarray, "*box"]:
        """Compute how strongly each voxel moves the mean logit: the largest |gradient|.

        Over the channels, on the unchanged image; 0 outside of the receptive field.
        """
        (gradient,), _ = self.gradients(self.image, "logit")
        return np.asarray(np.abs(gradient).max(axis=0))


@dataclass(frozen=True)
class Access:
    """How the models of results are reached.

    Parameters
    ----------
    places : Places
        Where weights and models are; images are taken from the results.
    device : str
        As for a run.
    progress : Progress
        Told about the work.
    """

    places: Places = field(default_factory=Places)
    device: str = "auto"
    progress: Progress = field(default_factory=Quiet)

    def task(self, tree: xr.DataTree) -> Task:
        """Prepare the model of an open result for its image."""
        return task_on_stored_image(tree, self.places, device=self.device, progress=self.progress)


@contextmanager
def ready(task: Task) -> Iterator[None]:
    """Keep the network in inference mode during the block."""
    with frozen(task.predictor.network), exact_arithmetic():
        yield


def instances_of(task: Task, tree: xr.DataTree) -> dict[int, Instance]:
    """Read the instances of a result, with the logit of each in the model, by label.

    Raises
    ------
    SegxaiError
        If the model has no such class.
    """
    stored, classes = group(tree, "instances").load(), task.prediction.classes
    domains = domains_of(tree)
    found = {}
    names = zip(stored["label"].values.tolist(), stored["class"].values.tolist(), strict=True)
    for label, name in names:
        if name not in classes:
            raise SegxaiError(
                f"instance {label} is a {name!r}, which the model does not find again"
            )
        found[label] = Instance(label, domains[label], classes.index(name))
    return found


def healthy_tissue(
    task: Task, tree: xr.DataTree, instances: Mapping[int, Instance]
) -> Bool[np.ndarray, "*grid"]:
    """Find the foreground of the image outside of every instance and of the expert's reference.

    True negatives are healthy.
    """
    case, box = task.case, Box.whole(task.case.grid.shape)
    outcomes = group(tree, "instances")["outcome"].values.astype(str).tolist()
    labels = group(tree, "instances")["label"].values.tolist()
    objects = [
        instances[label] for label, outcome in zip(labels, outcomes, strict=True) if outcome != "TN"
    ]
    drawn = case_of(tree).reference
    if drawn is not None and drawn.any():
        objects.append(Instance.from_mask(drawn))
    healthy = case.foreground.copy()
    for one in objects:
        healthy[tuple(on_map(one, case, box).voxels.T)] = False
    return healthy


def check_same_model(clean: DomainScore, stored: float, label: int) -> None:
    """Check that the model gives an instance the mean probability that its result holds.

    Raises
    ------
    SegxaiError
        If it does not.
    """
    if abs(clean.probability - stored) > SAME_PROBABILITY:
        raise SegxaiError(
            f"the model gives instance {label} a mean probability of {clean.probability:.4f}, the "
            f"result holds {stored:.4f}: it is not the model of the result"
        )
