"""Masks: the labels of a user's or an expert's mask, on the grid of a case's instances."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from skimage.measure import label as label_objects

from segxai.errors import SegxaiError, collecting, warn
from segxai.geometry import Box, Grid
from segxai.load.channels import check_same_grid
from segxai.load.pictures import load_picture_labels
from segxai.load.resampling import has_same_voxels, resample
from segxai.load.volumes import load_labels
from segxai.text import format_shape
from segxai.types import Case, Source

NIFTI = (".nii", ".nii.gz")
NAMES = 'write labels and names, such as {"1": "periventricular"}'


def with_reference(case: Case, path: Path) -> Case:
    """Add an expert's objects to a case: the labels of a mask on the grid of its files.

    Labels that are all 1 become booleans. Of others, a run takes those of its class. A mask
    without objects is that of a scan in which an expert found none, which is said in a warning.
    """
    with collecting() as warnings:
        labels, source = _labels(path, "reference", case)
        if not labels.any():
            warn(f"the reference {source.name} has no objects: whatever is predicted is an FP")
    return replace(
        case,
        reference=labels != 0 if labels.max() <= 1 else labels,
        sources=(*case.sources, source),
        warnings=(*case.warnings, *warnings),
    )


def with_regions(case: Case, path: Path) -> Case:
    """Add regions to a case: the labels of a map on the grid of its files.

    Names are read from a JSON beside it, of the same name: `{"1": "periventricular", ...}`.

    Raises
    ------
    SegxaiError
        If the map cannot be used, or the JSON is something else.
    """
    labels, source = _labels(path, "regions", case)
    return replace(case, regions=labels, region_names=_names(path), sources=(*case.sources, source))


def _names(path: Path) -> dict[int, str]:
    """Read the names of regions beside their map; empty if there is no such file."""
    beside = path.with_name(f"{path.name.split('.')[0]}.json")
    if not beside.is_file():
        return {}
    try:
        found = {int(label): name for label, name in json.loads(beside.read_text()).items()}
    except (AttributeError, OSError, ValueError) as error:
        raise SegxaiError(f"{beside} does not name regions: {NAMES}") from error
    if not all(isinstance(name, str) for name in found.values()):
        raise SegxaiError(f"{beside} does not name regions: {NAMES}")
    return found


def load_mask(path: Path, case: Case) -> Int[np.ndarray, "*grid"]:
    """Load an integer mask on the grid of the case's files, as labels on the grid of instances.

    Raises
    ------
    SegxaiError
        If it cannot be used, lies on another grid, or loses a label in resampling.
    """
    return _labels(path, "mask", case)[0]


def _labels(path: Path, role: str, case: Case) -> tuple[Int[np.ndarray, "*grid"], Source]:
    grid, flat = case.domain_grid, len(case.domain_grid.shape) == 2
    if flat and not any(one.name.endswith(NIFTI) for one in case.sources):
        return _picture_labels(path, role, grid)
    labels, own, source = load_labels(path, role, flat=flat)
    if flat:
        _check_size(labels, role, source, grid)
        return labels, source
    image_grid = case.source_grid or case.grid
    check_same_grid(("the image", image_grid), (f"{role} {source.name}", own))
    moved = resample(labels, image_grid, grid, order=0)
    lost = sorted(set(np.unique(labels)) - set(np.unique(moved)) - {0})
    if lost:
        raise SegxaiError(
            f"{source.name}: label {lost[0]} is lost on the network's grid of "
            f"{format_shape(grid.shape)} voxels: it is smaller than they are, or lies where the "
            "network sees nothing; leave it out or draw it larger"
        )
    if not has_same_voxels(image_grid, grid):
        _warn_of_outside(labels, image_grid, grid, f"{role} {source.name}")
        _warn_of_vanished(labels, image_grid, grid, f"{role} {source.name}")
    return moved, source


def _warn_of_outside(
    labels: Int[np.ndarray, "*source"], source: Grid, target: Grid, what: str
) -> None:
    """Warn if an image was cropped so that drawn voxels lie outside of what the network sees."""
    places = target.to_voxels(source.to_mm(np.argwhere(labels)))
    outside = ~Box.whole(target.shape).contains(np.rint(places).astype(int))
    if outside.any():
        warn(
            f"{outside.sum()} of the {len(outside)} voxels drawn in {what} lie outside of the part "
            f"of the image that the network sees ({format_shape(target.shape)} voxels): left out"
        )


def _warn_of_vanished(
    labels: Int[np.ndarray, "*source"], source: Grid, target: Grid, what: str
) -> None:
    """Warn if connected objects of a mask have no voxel on another grid."""
    objects, count = label_objects(labels, connectivity=2, return_num=True)
    kept = np.count_nonzero(np.unique(resample(objects, source, target, order=0)))
    if kept < count:
        warn(
            f"{count - kept} of the {count} objects in {what} vanish on the network's grid of "
            f"{format_shape(target.shape)} voxels: they are smaller than its voxels, or lie where "
            "it sees nothing"
        )


def _picture_labels(path: Path, role: str, grid: Grid) -> tuple[Int[np.ndarray, "y x"], Source]:
    labels, source = load_picture_labels(path, role)
    _check_size(labels, role, source, grid)
    return labels, source


def _check_size(labels: Int[np.ndarray, "_ _"], role: str, source: Source, grid: Grid) -> None:
    if labels.shape != grid.shape:
        raise SegxaiError(
            f"{role} {source.name} has {format_shape(labels.shape)} pixels, the picture "
            f"{format_shape(grid.shape)} (rows x columns); give one of the same size"
        )
