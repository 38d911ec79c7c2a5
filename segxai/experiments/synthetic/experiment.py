"""Synthetic lesions: a clear one moved elsewhere, and made-up ones of graded contrast and size.

The paper moves a lesion to healthy tissue, outside of the head, and there again with a rim of its
own surroundings (section 3.4). Where a place lies relative to windows and strides changes a score,
so that every arm is repeated at many places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.experiments.cutting import Frame, strip_of
from segxai.experiments.fills import Filler, check_fills, healthy_mean, usable_fills
from segxai.experiments.frame import CaseFile, Experiment, Measured
from segxai.experiments.probe import (
    Access,
    Probe,
    check_same_model,
    healthy_tissue,
    instances_of,
    ready,
)
from segxai.experiments.synthetic.places import balls_of, place_in, typical_tissue
from segxai.experiments.synthetic.report import report
from segxai.load.masks import load_mask
from segxai.run.prepare import Task
from segxai.store.hdf5 import open_result
from segxai.store.schema import group
from segxai.types import Instance

Voxels = Int[np.ndarray, "voxel axis"]
Image = Float[np.ndarray, "channel *grid"]

RIM_MM = 3.0
FROM_OBJECTS_MM = 5.0
FROM_HEAD_MM = 2.0
SIZES_MM3 = (10.0, 30.0, 93.0, 300.0)
SHARES_OF_MEDIAN = (0.25, 0.5, 1.0, 2.0)  # of the median area, in pictures


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Settings of the experiment.

    Parameters
    ----------
    fills : tuple of str
        What the background outside of the head is filled with.
    where : Path, optional
        A mask of the tissue that lesions are moved to, on the grid of the case's files; by default
        healthy tissue as bright as the surroundings of the lesions (see `typical_tissue`).
    places : int
        How often each arm, and each size, is repeated.
    contrasts : tuple of float
        Doses, as multiples of the moved lesion's own contrast.
    sizes : tuple of float
        Volumes of made-up lesions in mm3 (areas in pixels).
    label : int, optional
        The lesion that is moved; by default the surest of the larger half.
    seed : int
        Of the places.
    """

    fills: tuple[str, ...] = ("zero", "black", "dark")
    where: Path | None = None
    places: int = 10
    contrasts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    sizes: tuple[float, ...] = ()
    label: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fills(self.fills)
        if "blurred" in self.fills:
            raise SegxaiError("the background outside of a head is empty: blurred fills nothing")
        if self.places < 1:
            raise SegxaiError(f"{self.places} places: give 1 or more")
        if any(one <= 0 for one in self.sizes):
            raise SegxaiError(f"sizes {self.sizes}: give volumes above 0")
        if len(self.contrasts) < 2 or sorted(self.contrasts) != list(self.contrasts):
            raise SegxaiError(f"contrasts {self.contrasts}: give two or more, in increasing order")


def synthetic(settings: Synthetic, access: Access) -> Experiment:
    """Build the experiment."""

    def measure(case: CaseFile) -> Measured:
        with open_result(case.path) as tree:
            return _measure(tree, case, settings, access)

    return Experiment(name="synthetic", settings=settings, measure=measure, report=report)


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


def _measure(tree: xr.DataTree, case: CaseFile, settings: Synthetic, access: Access) -> Measured:
    known = group(tree, "instances").load()
    label = _label(known, settings)
    empty = Measured({"moved": pd.DataFrame(), "doses": pd.DataFrame()})
    if label is None:
        access.progress.say(f"{case.case}: no detected lesion to move")
        return empty
    task = access.task(tree)
    if task.case.domains_on_source:
        raise SegxaiError(
            f"{case.path.name}: its instances lie on another grid than the network's input, where "
            "nothing can be moved voxel by voxel; use a model without a readout"
        )
    instances = instances_of(task, tree)
    filler = Filler(task.case, healthy_tissue(task, tree, instances))
    stored = float(known["mean_probability"].sel(label=label))
    lesion = _lesion(task, instances[label], stored, filler)
    objects = _objects(tree, instances, task)
    target = _target(task, filler, objects, settings)
    sizes = settings.sizes or _sizes(known)
    doses = settings.places * len(sizes) * len(settings.contrasts)
    access.progress.begin(f"synthetic {case.case}", settings.places * 6 + doses)
    about = {**case.columns, "label": label, "unit_of_size": _unit(task)}
    with ready(task):
        moved, frames = _arms(task, lesion, target, filler, settings, access)
        rows = _doses(task, lesion, target, sizes, settings, access)
        doses_table = pd.DataFrame([{**about, **row} for row in rows])
        strip = strip_of(task, lesion.instance, frames, f"Lesion {label} moved")
    tables = {"moved": pd.DataFrame([{**about, **row} for row in moved]), "doses": doses_table}
    return Measured(tables, strip)


def _unit(task: Task) -> str:
    return "mm3" if len(task.case.grid.shape) == 3 else "px"


def _label(known: xr.Dataset, settings: Synthetic) -> int | None:
    """Choose the lesion: the surest of the larger half of those that are detected."""
    table = known[["outcome", "voxels", "mean_probability"]].to_dataframe()
    table = table[table["outcome"].astype(str).isin(("TP", ""))]
    if settings.label is not None:
        return settings.label if settings.label in table.index else None
    large = table[table["voxels"] >= table["voxels"].median()]
    return int(large["mean_probability"].idxmax()) if len(large) else None


def _lesion(task: Task, instance: Instance, stored: float, filler: Filler) -> Lesion:
    case = task.case
    domain = instance.mask(case.grid.shape)
    distance = np.asarray(ndimage.distance_transform_edt(~domain, sampling=case.grid.spacing))
    rim = np.argwhere(distance <= RIM_MM)
    inside = case.image[:, domain].mean(axis=1)
    contrast = inside - healthy_mean(case.image, filler.healthy, distance)
    return Lesion(instance, stored, rim, np.asarray(contrast))


def _objects(
    tree: xr.DataTree, instances: dict[int, Instance], task: Task
) -> Bool[np.ndarray, "*grid"]:
    """Mark the foreground that is no healthy tissue."""
    return np.asarray(task.case.foreground & ~healthy_tissue(task, tree, instances))


def _target(
    task: Task, filler: Filler, objects: Bool[np.ndarray, "*grid"], settings: Synthetic
) -> Bool[np.ndarray, "*grid"]:
    """Mark the tissue that lesions are moved to.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    spacing = task.case.grid.spacing
    away = np.full(objects.shape, np.inf)
    if objects.any():
        away = np.asarray(ndimage.distance_transform_edt(~objects, sampling=spacing))
    if settings.where is None:
        allowed = typical_tissue(task.case, filler.healthy, away)
    else:
        allowed = np.asarray(load_mask(settings.where, task.case) != 0)
    target = filler.healthy & (away >= FROM_OBJECTS_MM) & allowed
    if not target.any():
        raise SegxaiError(
            f"no healthy tissue at {FROM_OBJECTS_MM:g} mm or more from all objects is "
            f"{'in the mask' if settings.where else 'as bright as their surroundings'}; say where "
            "lesions may go with --where MASK"
        )
    return target


def _sizes(known: xr.Dataset) -> tuple[float, ...]:
    if "volume_mm3" in known:
        return SIZES_MM3
    median = float(np.median(known["area_px"].values))
    return tuple(share * median for share in SHARES_OF_MEDIAN)


# -------------------------------------------------------------------------------------- moved


def _arms(
    task: Task,
    lesion: Lesion,
    target: Bool[np.ndarray, "*grid"],
    filler: Filler,
    settings: Synthetic,
    access: Access,
) -> tuple[list[dict[str, Any]], list[Frame]]:
    """Score the lesion where it is, in healthy tissue, outside, and outside with its rim."""
    case, here = task.case, Probe.of(task, lesion.instance)
    clean = here.score(here.image)
    check_same_model(clean, lesion.stored, lesion.instance.label)
    nowhere = np.zeros(len(case.grid.shape), dtype=int)
    rows = [_row(here, case.image, "where it was", "none", 0, nowhere)]
    shape = case.grid.shape
    frames = [Frame("where it was", case.image, lesion.instance.mask(shape))]
    arms: list[tuple[str, str, Image, Bool[np.ndarray, "*grid"], Voxels]] = [
        ("healthy tissue", "none", case.image, target, lesion.instance.voxels)
    ]
    outside = _outside(task)
    for fill in usable_fills(settings.fills, case):
        level = filler.levels(fill, here.box, here.distance)
        background = np.where(case.foreground, case.image, level.reshape(-1, *[1] * len(shape)))
        arms.append(("outside", fill, background, outside, lesion.instance.voxels))
        arms.append((f"outside, {RIM_MM:g} mm rim", fill, background, outside, lesion.rim))
    for arm, fill, background, mask, patch in arms:
        generator = np.random.default_rng(settings.seed)
        offsets = place_in(mask, patch, settings.places, generator)
        if not len(offsets):
            access.progress.say(f"{arm}: no room for the lesion; left out")
        for number, offset in enumerate(offsets, start=1):
            moved = replace(lesion.instance, voxels=lesion.instance.voxels + offset, sampled=None)
            probe, image = Probe.of(task, moved), _pasted(background, case.image, patch, offset)
            rows.append(_row(probe, image, arm, fill, number, offset))
            if arm == "healthy tissue":  # the same voxels without it: matched in shape
                rows.append(_row(probe, background, "nothing there", "none", number, offset))
            if number == 1:
                words = arm if fill == "none" else f"{arm}, {fill}"
                frames.append(Frame(words, image, moved.mask(shape)))
            access.progress.advance(1)
    return rows, frames


def _row(
    probe: Probe, image: Image, arm: str, fill: str, number: int, offset: Int[np.ndarray, " axis"]
) -> dict[str, Any]:
    """Score a domain in an image, with the peaks of its mean map in each channel."""
    shown = image[probe.box.index]
    peaks = {}
    for score in ("logit", "probability"):
        gradient = probe.gradient(shown, score).reshape(len(image), -1)
        for channel, values in zip(probe.task.case.channels, gradient, strict=True):
            peaks[f"{channel}_peak_{score}"] = float(values.max(initial=0))
    about = {"arm": arm, "fill": fill, "place": number, "offset": _words(offset)}
    return {**about, **probe.score(shown).columns, **peaks}


def _words(voxel: Int[np.ndarray, " axis"]) -> str:
    return " ".join(map(str, voxel.tolist()))


def _outside(task: Task) -> Bool[np.ndarray, "*grid"]:
    """Mark what lies outside of the head, at 2 mm or more from it."""
    case = task.case
    head = ndimage.binary_fill_holes(case.foreground)
    if head.all():
        return np.zeros(case.grid.shape, dtype=bool)
    away = ndimage.distance_transform_edt(~head, sampling=case.grid.spacing)
    return np.asarray(away >= FROM_HEAD_MM)


def _pasted(
    background: Image, source: Image, patch: Voxels, offset: Int[np.ndarray, " axis"]
) -> Image:
    """Return the background with the patch of a source image, moved."""
    image = background.copy()
    image[(slice(None), *(patch + offset).T)] = source[(slice(None), *patch.T)]
    return image


# -------------------------------------------------------------------------------------- doses


def _doses(
    task: Task,
    lesion: Lesion,
    target: Bool[np.ndarray, "*grid"],
    sizes: Sequence[float],
    settings: Synthetic,
    access: Access,
) -> Iterator[dict[str, Any]]:
    """Score balls of each size and contrast, added to healthy tissue at each place."""
    case = task.case
    balls = balls_of(sizes, case.grid)
    largest = max(balls, key=len)
    generator = np.random.default_rng(settings.seed + 1)
    centres = place_in(target, largest, settings.places, generator)
    if len(centres) < settings.places:
        access.progress.say(
            f"{len(centres)} of {settings.places} healthy places have room for made-up lesions of "
            f"{max(sizes):g} {_unit(task)}"
        )
    for number, centre in enumerate(centres, start=1):
        instance = replace(lesion.instance, voxels=largest + centre, sampled=None)
        probe = Probe.of(task, instance)
        image = case.image[probe.box.index]
        for size, ball in zip(sizes, balls, strict=True):
            some = np.flatnonzero((largest[:, None] == ball[None]).all(axis=2).any(axis=1))
            inside = probe.near.voxels[some]
            for contrast in settings.contrasts:
                shown = image.copy()
                shown[(slice(None), *inside.T)] += contrast * lesion.contrast[:, None]
                one = {"place": number, "centre": _words(centre), "size": size}
                one |= {"voxels": len(ball), "contrast": contrast}
                yield {**one, **probe.score(shown, some).columns}
                access.progress.advance(1)
