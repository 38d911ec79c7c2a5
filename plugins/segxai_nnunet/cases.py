"""Cases: images and masks read as nnU-Net reads them, and brought to the network's grid."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from segxai import (
    Case,
    Grid,
    Volume,
    check_varies,
    describe_change,
    describe_crop,
    header_spacing,
    is_for_itk,
    load_volumes,
)
from segxai_nnunet.folder import TrainedModel
from segxai_nnunet.normalisation import unit_of
from segxai_nnunet.plans import Plans
from segxai_nnunet.preprocessing import Prepared, network_order, prepare

SAME_SIZE = 1e-4  # of a voxel: rounding in headers is smaller


def load_case(model: TrainedModel, files: Mapping[str, Path]) -> Case:
    """Load the images of a case as the model's network sees them.

    Parameters
    ----------
    files : mapping
        A 3D image for each channel, on one grid.

    Raises
    ------
    SegxaiError
        If a file cannot be used, or the grids differ.
    """
    volumes = load_images(model, files)
    source = volumes[0].grid
    exact, warnings = _as_in_header(files[model.dataset.channels[0]], source)
    prepared = prepare(np.stack([one.data for one in volumes]), exact, model.plans)
    return Case(
        name=volumes[0].source.name.split(".")[0],
        image=prepared.image,
        channels=model.dataset.channels,
        grid=prepared.grid,
        foreground=prepared.foreground,
        input_unit=unit_of(model.plans.schemes),
        black=prepared.black,
        source_grid=source,
        notes=_notes(source, prepared, model.plans),
        warnings=warnings,
    )


def load_images(model: TrainedModel, files: Mapping[str, Path]) -> list[Volume]:
    """Load the images of a case as they are in their files, and check them.

    Raises
    ------
    SegxaiError
        If a file cannot be used, or the grids differ.
    """
    volumes = load_volumes(files, model.dataset.channels)
    for volume in volumes:
        check_varies(volume)
    return volumes


def _as_in_header(path: Path, grid: Grid) -> tuple[Grid, tuple[str, ...]]:
    """Give the grid the voxel size in the file's header; if the two differ, keep it and warn.

    The sizes that an oblique affine implies are rounded, and nnU-Net uses the header's: where the
    size of the resampled image is near a half, the last digit decides about a voxel.
    """
    if is_for_itk(path):
        return grid, ()
    steps = header_spacing(path)
    change = np.divide(steps, grid.spacing)
    if np.allclose(change, 1, rtol=0, atol=SAME_SIZE):
        return Grid(grid.shape, grid.affine * [*change, 1]), ()
    return grid, (
        f"{path.name}: voxels of {_sizes(steps)} in its header, but {_millimetres(grid)} in its "
        "affine, which is used; nnU-Net may have used the former",
    )


def _notes(source: Grid, prepared: Prepared, plans: Plans) -> tuple[str, ...]:
    """Describe what was done to the grid, in the order in which it was done."""
    ordered, cropped, final = network_order(source, plans), prepared.cropped, prepared.grid
    parts = [describe_change(source, ordered), describe_crop(ordered, cropped)]
    if final.shape != cropped.shape:
        parts.append(f"resampled {_millimetres(cropped)} -> {_millimetres(final)}")
    words = "; ".join(part for part in parts if part)
    return (f"{words} for the network; exported on the input's grid",) if words else ()


def _millimetres(grid: Grid) -> str:
    return _sizes(grid.spacing)


def _sizes(steps: Iterable[float]) -> str:
    return " x ".join(f"{step:.3g}" for step in steps) + " mm"
