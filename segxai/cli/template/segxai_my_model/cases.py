"""From files to the network's input: reading, voxel size, normalisation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from segxai import (
    Case,
    Grid,
    SegxaiError,
    Source,
    check_same_grid,
    check_varies,
    load_labels,
    load_volume,
    resample,
    working_grid,
)

from .network import CHANNELS

SPACING_MM = 1.5  # REPLACE: the voxel size with which the network was trained


def load_case(files: Mapping[str, Path], reference: Path | None) -> Case:
    """Load a user's files, one for each channel, and the true blobs if they are known."""
    volumes = [load_volume(files[channel], channel) for channel in CHANNELS]
    for volume in volumes:
        check_varies(volume)
    check_same_grid(*volumes)
    source = volumes[0].grid
    grid = working_grid(source, SPACING_MM)  # right-anterior-superior, of this voxel size
    raw = np.stack([resample(volume.data, source, grid, order=1) for volume in volumes])
    case = Case(
        name=volumes[0].source.name.split(".")[0],
        image=normalise(raw),
        channels=CHANNELS,
        grid=grid,
        foreground=foreground(raw),
        input_unit="standard deviation",  # REPLACE: what 1 means after `normalise`
        source_grid=source,
        sources=tuple(volume.source for volume in volumes),
    )
    if reference is None:
        return case
    drawn, drawing = read_labels(reference, "reference", case)
    return replace(case, reference=drawn != 0, sources=(*case.sources, drawing))


def load_mask(path: Path, case: Case) -> np.ndarray:
    """Load a user's own instances, one for each label, for `--instances MASK`."""
    return read_labels(path, "mask", case)[0]


def read_labels(path: Path, role: str, case: Case) -> tuple[np.ndarray, Source]:
    """Read labels on the grid of the user's files, and resample them to the network's."""
    labels, grid, source = load_labels(path, role)
    check_same_grid(("image", case.source_grid or case.grid), (f"{role} {source.name}", grid))
    moved = resample(labels, grid, case.grid, order=0)
    lost = set(np.unique(labels)) - set(np.unique(moved))
    if lost:  # what a user can fix is a SegxaiError of one line
        raise SegxaiError(f"{source.name}: label {min(lost)} is too small; draw it larger")
    return moved, source


def foreground(raw: np.ndarray) -> np.ndarray:
    """Find the voxels that show something; noise levels are measured there."""
    return (raw != 0).any(axis=0)


def normalise(raw: np.ndarray) -> np.ndarray:
    """Z-score each channel in the foreground. REPLACE with what training did."""
    inside = foreground(raw)
    mean = [channel[inside].mean() for channel in raw]
    spread = [channel[inside].std() for channel in raw]
    scaled = [(channel - m) / s for channel, m, s in zip(raw, mean, spread, strict=True)]
    return np.where(inside, scaled, 0).astype(np.float32)


def embedded_case() -> Case:
    """Make four blobs in noise, for runs without an image. REPLACE with a small real case."""
    shape = (40, 36, 32)
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    centres = {(10, 10, 10): 3.2, (28, 12, 9): 2.6, (12, 25, 21): 2.3, (29, 25, 20): 2.0}
    blobs = [np.linalg.norm(voxels - np.array(one), axis=-1) <= r for one, r in centres.items()]
    drawn = np.any(blobs, axis=0)
    raw = np.random.default_rng(0).normal(100, 10, (len(CHANNELS), *shape))
    raw[0][drawn] -= 30
    raw[1][drawn] += 60
    return Case(
        name="embedded",
        image=normalise(raw),
        channels=CHANNELS,
        grid=Grid(shape, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1])),
        foreground=foreground(raw),
        input_unit="standard deviation",
        reference=drawn,
    )
