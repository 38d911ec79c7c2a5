"""The adapter: reads two NIfTI files as a case, and describes the lesion network to segxai."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from segxai import (
    Adapter,
    Case,
    Grid,
    SegxaiError,
    Source,
    Volume,
    check_same_grid,
    check_varies,
    describe_change,
    hookimpl,
    load_labels,
    load_volume,
    resample,
    working_grid,
)
from segxai_ms_lesion.guards import check_images, check_lesion_contrast
from segxai_ms_lesion.network import (
    CHANNELS,
    CLASSES,
    OVERLAP,
    THRESHOLD,
    WINDOW,
    load_unet,
    weights_file,
)
from segxai_ms_lesion.preprocessing import normalise_all

EMBEDDED = Path(__file__).parent / "case"


def load_case(files: Mapping[str, Path], reference: Path | None) -> Case:
    """Load FLAIR and MPRAGE, resample them to the network's grid (RAS, 1 mm) and z-score the brain.

    The images must already be registered, bias-field corrected and skull-stripped.

    Parameters
    ----------
    files : mapping
        The files of "flair" and "mprage", 3D NIfTI on one grid.
    reference : Path, optional
        Lesions as an expert drew them, non-zero, on the same grid.

    Raises
    ------
    SegxaiError
        If a file cannot be used, or the grids differ.
    """
    volumes = [load_volume(files[channel], channel) for channel in CHANNELS]
    for volume in volumes:
        check_varies(volume)
    check_same_grid(*volumes)
    grid = working_grid(volumes[0].grid)
    raw = np.stack([resample(one.data, one.grid, grid, order=1) for one in volumes])
    case = Case(
        name=volumes[0].source.name.split(".")[0],
        image=normalise_all(raw),
        channels=CHANNELS,
        grid=grid,
        foreground=(raw != 0).any(axis=0),
        input_unit="standard deviation",
        source_grid=volumes[0].grid,
        sources=tuple(one.source for one in volumes),
        notes=_notes(volumes[0], grid),
        warnings=tuple(check_images(raw[0], raw[1], grid.voxel_volume_mm3)),
    )
    return case if reference is None else _with_reference(case, reference)


def load_mask(path: Path, case: Case) -> Int[np.ndarray, "x y z"]:
    """Load an integer mask on the input's grid and resample it to the network's, keeping labels.

    Raises
    ------
    SegxaiError
        If it cannot be used, lies on another grid, or loses a label on the way.
    """
    labels, _ = _load_mask(path, "mask of instances", case)
    return labels


def _load_mask(path: Path, role: str, case: Case) -> tuple[Int[np.ndarray, "x y z"], Source]:
    labels, grid, source = load_labels(path, role)
    source_grid = case.source_grid or case.grid
    check_same_grid((f"{CHANNELS[0]} file", source_grid), (f"{role} {source.name}", grid))
    moved = resample(labels, grid, case.grid, order=0)
    lost = sorted(set(np.unique(labels)) - set(np.unique(moved)))
    if lost:
        raise SegxaiError(
            f"{source.name}: label {lost[0]} is too small to survive on the network's grid of "
            f"{'x'.join(f'{step:.2g}' for step in case.grid.spacing)} mm; leave it out or draw it "
            "larger"
        )
    return moved, source


def _with_reference(case: Case, path: Path) -> Case:
    labels, source = _load_mask(path, "reference", case)
    return replace(case, reference=labels != 0, sources=(*case.sources, source))


def _notes(volume: Volume, grid: Grid) -> tuple[str, ...]:
    change = describe_change(volume.grid, grid)
    return () if change is None else (f"{change} for the network; exported on the input's grid",)


def embedded_case() -> Case:
    """Load the phantom that comes with the plugin, with its reference."""
    files = {channel: EMBEDDED / f"{channel}.nii.gz" for channel in CHANNELS}
    return replace(load_case(files, EMBEDDED / "reference.nii.gz"), name="embedded")


def check_objects(case: Case, lesions: Bool[np.ndarray, "x y z"]) -> list[str]:
    """Return warnings about lesions that do not look like lesions of MS."""
    return check_lesion_contrast(case.image, lesions, case.foreground)


@hookimpl
def segxai_adapter() -> Adapter:
    """Build the adapter of the 3D U-Net for lesions of multiple sclerosis."""
    return Adapter(
        name="ms_lesion",
        channels=CHANNELS,
        classes=CLASSES,
        load_network=load_unet,
        load_case=load_case,
        load_labels=load_mask,
        embedded_case=embedded_case,
        weights=lambda checkpoint: checkpoint or weights_file(),
        target_class="lesion",
        threshold=THRESHOLD,
        min_volume_mm3=5.0,
        connectivity=2,
        window=WINDOW,
        overlap=OVERLAP,
        # Chosen on the embedded case: at the decoder layer above it, Grad-CAM++'s denominators
        # are so large or negative that some lesions get no heat at all.
        layer="model.1.submodule.1.submodule.2",
        check_objects=check_objects,
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, 3D U-Net",
    )
