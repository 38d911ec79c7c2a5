"""The adapter: reads two NIfTI files as a case, and describes the lesion network to segxai."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from segxai import (
    Adapter,
    Box,
    Case,
    Grid,
    InstanceCriteria,
    SlidingWindow,
    check_varies,
    describe_change,
    describe_crop,
    hookimpl,
    load_volumes,
    read_case,
    resample,
    working_grid,
)
from segxai_ms_lesion.guards import check_images, check_lesion_contrast
from segxai_ms_lesion.network import (
    CHANNELS,
    CLASSES,
    THRESHOLD,
    load_unet,
    weights_file,
)
from segxai_ms_lesion.preprocessing import normalise_all

EMBEDDED = Path(__file__).parent / "case"
PAPERS_WINDOWS = SlidingWindow((96, 96, 96), overlap=0.25, evenly=True)
# Most brains fit into one window, cropped: a row costs a backward pass in each that covers it.
WINDOWS = SlidingWindow((160, 192, 160), overlap=0.25, evenly=True, divisor=8)


def load_case(files: Mapping[str, Path]) -> Case:
    """Load FLAIR and MPRAGE, resample them to RAS and 1 mm, crop them to the brain and z-score it.

    The images must already be registered, bias-field corrected and skull-stripped. The crop is the
    smallest box that holds what is not 0 in either image: all of an image without background.

    Parameters
    ----------
    files : mapping
        The files of "flair" and "mprage", 3D NIfTI on one grid; or one 4D NIfTI for both.

    Raises
    ------
    SegxaiError
        If a file cannot be used, or the grids differ.
    """
    volumes = load_volumes(files, CHANNELS)
    for volume in volumes:
        check_varies(volume)
    grid = working_grid(volumes[0].grid)
    raw = np.stack([resample(one.data, one.grid, grid, order=1) for one in volumes])
    brain = Box.holding((raw != 0).any(axis=0))
    inside = raw[brain.index]
    return Case(
        name=volumes[0].source.name.split(".")[0],
        image=normalise_all(inside),
        channels=CHANNELS,
        grid=grid.part(brain),
        foreground=(inside != 0).any(axis=0),
        input_unit="standard deviation",
        black=(0.0, 0.0),  # `normalise` keeps it
        source_grid=volumes[0].grid,
        notes=_notes(volumes[0].grid, grid, brain),
        warnings=tuple(check_images(raw[0], raw[1], grid.voxel_volume_mm3)),
    )


def _notes(source: Grid, grid: Grid, brain: Box) -> tuple[str, ...]:
    parts = (describe_change(source, grid), describe_crop(grid, grid.part(brain)))
    words = "; ".join(part for part in parts if part)
    return (f"{words} for the network; exported on the input's grid",) if words else ()


def embedded_case() -> Case:
    """Load the phantom that comes with the plugin, with its reference."""
    files = {channel: EMBEDDED / f"{channel}.nii.gz" for channel in CHANNELS}
    case = read_case(load_case, files, EMBEDDED / "reference.nii.gz")
    return replace(case, name="embedded")


def check_objects(case: Case, lesions: Bool[np.ndarray, "x y z"]) -> list[str]:
    """Return warnings about lesions that do not look like lesions of MS."""
    return check_lesion_contrast(case.image, lesions, case.foreground)


@hookimpl
def segxai_adapter(checkpoint: Path | None = None, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the 3D U-Net for lesions of multiple sclerosis.

    A checkpoint is taken to be trained for the paper's windows.
    """
    return Adapter(
        channels=CHANNELS,
        classes=CLASSES,
        load_network=partial(load_unet, checkpoint, weights_key),
        load_case=load_case,
        criteria=InstanceCriteria(CLASSES.index("lesion"), THRESHOLD, min_volume_mm3=5.0),
        predict=PAPERS_WINDOWS if checkpoint else WINDOWS,
        weights=checkpoint or weights_file(),
        embedded_case=embedded_case,
        # Chosen on the embedded case: at the decoder layer above it, Grad-CAM++'s denominators
        # are so large or negative that some lesions get no heat at all.
        layer="model.1.submodule.1.submodule.2",
        check_objects=check_objects,
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, 3D U-Net",
    )
