"""Moving: what a model says of a lesion where it was, in healthy tissue and outside of the head."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from segxai.experiments.cutting import Frame
from segxai.experiments.fills import Filler, healthy_mean, usable_fills
from segxai.experiments.probe import Access, Probe, check_same_model
from segxai.experiments.synthetic.places import outside_of_head, place_in
from segxai.experiments.synthetic.settings import Synthetic
from segxai.run.prepare import Task
from segxai.types import Instance

Voxels = Int[np.ndarray, "voxel axis"]
Offset = Int[np.ndarray, " axis"]
Image = Float[np.ndarray, "channel *grid"]
Mask = Bool[np.ndarray, "*grid"]

RIM_MM = 3.0
SCORES = ("logit", "probability")
ORIGINAL, HEALTHY, NOTHING = "where it was", "healthy tissue", "nothing there"


@dataclass(frozen=True)
class Lesion:
    """The lesion that is moved.

    Parameters
    ----------
    instance : Instance
        Where it is.
    stored : float
        Its mean probability in the result.
    rim : ndarray of shape (voxel, axis)
        Its voxels and those within 3 mm.
    contrast : ndarray of shape (channel,)
        Its mean minus that of healthy tissue around it.
    """

    instance: Instance
    stored: float
    rim: Voxels
    contrast: Float[np.ndarray, " channel"]

    @classmethod
    def of(cls, instance: Instance, stored: float, filler: Filler) -> "Lesion":
        """Measure the lesion in its case."""
        case = filler.case
        domain = instance.mask(case.grid.shape)
        distance = np.asarray(ndimage.distance_transform_edt(~domain, sampling=case.grid.spacing))
        around = healthy_mean(case.image, filler.healthy, distance)
        contrast = np.asarray(case.image[:, domain].mean(axis=1) - around)
        return cls(instance, stored, np.argwhere(distance <= RIM_MM), contrast)

    def moved(self, offset: Offset) -> Instance:
        """Return its domain elsewhere."""
        return replace(self.instance, voxels=self.instance.voxels + offset, sampled=None)


@dataclass(frozen=True)
class Arm:
    """One way of moving the lesion.

    Parameters
    ----------
    name, fill : str
        In the table; the fill is "none" where nothing is filled.
    background : ndarray of shape (channel, *grid)
        The image that the lesion is pasted on.
    allowed : ndarray of shape (*grid)
        Where it may lie.
    patch : ndarray of shape (voxel, axis)
        The voxels that are pasted, where they are in the case.
    """

    name: str
    fill: str
    background: Image
    allowed: Mask
    patch: Voxels

    @property
    def title(self) -> str:
        """The name of its picture."""
        return self.name if self.fill == "none" else f"{self.name}, {self.fill}"

    def image(self, source: Image, offset: Offset) -> Image:
        """Return the background with the patch of a source image, moved."""
        image = self.background.copy()
        image[(slice(None), *(self.patch + offset).T)] = source[(slice(None), *self.patch.T)]
        return image


def move(
    task: Task, lesion: Lesion, target: Mask, filler: Filler, settings: Synthetic, access: Access
) -> tuple[list[dict[str, Any]], list[Frame]]:
    """Score the lesion where it is and at the places of each arm; also frame one of each.

    Parameters
    ----------
    target : ndarray of shape (*grid)
        The healthy tissue that it is moved to.
    """
    source, shape = task.case.image, task.case.grid.shape
    here = Probe.of(task, lesion.instance)
    check_same_model(here.score(here.image), lesion.stored, lesion.instance.label)
    rows = [_row(here, source, ORIGINAL, "none", 0, np.zeros(len(shape), dtype=int))]
    frames = [Frame(ORIGINAL, source, lesion.instance.mask(shape))]
    for arm in _arms(here, lesion, target, filler, settings.fills):
        generator = np.random.default_rng(settings.seed)
        offsets = place_in(arm.allowed, arm.patch, settings.places, generator)
        if not len(offsets):
            access.progress.say(f"{arm.name}: no room for the lesion; left out")
        for number, offset in enumerate(offsets, start=1):
            rows += _scored(task, lesion, arm, number, offset)
            access.progress.advance(1)
        for offset in offsets[:1]:
            image = arm.image(source, offset)
            frames.append(Frame(arm.title, image, lesion.moved(offset).mask(shape)))
    return rows, frames


def _arms(
    here: Probe, lesion: Lesion, target: Mask, filler: Filler, fills: tuple[str, ...]
) -> Iterator[Arm]:
    """Yield healthy tissue, and for each fill the outside of the head, without and with a rim."""
    case = filler.case
    yield Arm(HEALTHY, "none", case.image, target, lesion.instance.voxels)
    outside = outside_of_head(case)
    for fill in usable_fills(fills, case):
        level = filler.levels(fill, here.box, here.distance)
        empty = level.reshape(-1, *[1] * len(case.grid.shape))
        background = np.where(case.foreground, case.image, empty)
        yield Arm("outside", fill, background, outside, lesion.instance.voxels)
        yield Arm(f"outside, {RIM_MM:g} mm rim", fill, background, outside, lesion.rim)


def _scored(
    task: Task, lesion: Lesion, arm: Arm, number: int, offset: Offset
) -> Iterator[dict[str, Any]]:
    """Score the lesion at a place of an arm; in healthy tissue also the place without it."""
    probe = Probe.of(task, lesion.moved(offset))
    image = arm.image(task.case.image, offset)
    yield _row(probe, image, arm.name, arm.fill, number, offset)
    if arm.name == HEALTHY:  # the same voxels: matched in shape
        yield _row(probe, arm.background, NOTHING, "none", number, offset)


def _row(
    probe: Probe, image: Image, arm: str, fill: str, number: int, offset: Offset
) -> dict[str, Any]:
    """Score a domain in an image, with the peaks of its mean map in each channel."""
    shown = image[probe.box.index]
    maps, found = probe.gradients(shown, *SCORES)
    peaks = {}
    for score, gradient in zip(SCORES, maps, strict=True):
        for channel, values in zip(probe.task.case.channels, gradient, strict=True):
            peaks[f"{channel}_peak_{score}"] = float(values.max(initial=0))
    about = {"arm": arm, "fill": fill, "place": number, "offset": voxel_in_words(offset)}
    return {**about, **found.columns, **peaks}


def voxel_in_words(voxel: Offset) -> str:
    """Write a voxel, or a shift, with its numbers apart."""
    return " ".join(map(str, voxel.tolist()))
