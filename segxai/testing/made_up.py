"""Made-up files: a known picture on a known grid, for an adapter to load."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from segxai.geometry import Grid
from segxai.report.nifti import save_volume
from segxai.testing.subject import Subject
from segxai.text import format_shape

IMAGE_SHAPES = {2: (48, 40), 3: (32, 28, 24)}  # where there is no embedded case
WAVES = ((1.0, 0.8, 0.9), (0.9, -1.0, 0.7), (-0.7, 0.8, 1.0))  # along each axis, in wavelengths
WAVE_LENGTH, MOST_WAVES = 12, 24  # of a wave, in the file's voxels; waves across a picture
EXTENT = 0.48  # of the field of view: the rest is background
NO_FILES = "skipped, it is neither a picture nor a volume"


@contextmanager
def made_up_files(subject: Subject, grid: Grid) -> Iterator[dict[str, Path]]:
    """Write a file for each of the adapter's inputs, which lasts as long as the block.

    Whatever looks wrong with such a picture is no warning.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield _write(Path(folder), subject, grid)


def file_grid(subject: Subject) -> Grid | None:
    """Build the grid of the files: in 3D with the case's spacing, its axes swapped and flipped.

    None if the input is neither a picture nor a volume.
    """
    rank = subject.image.ndim - 2
    if rank not in IMAGE_SHAPES:
        return None
    source = None if subject.case is None else subject.case.source_grid or subject.case.grid
    shape = IMAGE_SHAPES[rank] if source is None else source.shape
    if rank == 2:
        return Grid.unit(shape)
    steps = (1.0, 1.0, 1.0) if source is None else source.spacing
    order, signs = (1, 2, 0), (-1, 1, -1)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * steps[axis]
    affine[:3, 3] = (17, -23, 31)
    return Grid(shape, affine)


def waves(
    places: Float[np.ndarray, "*points axis"], files: Grid
) -> tuple[Float[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
    """Compute waves at places in mm, and their distance from the middle, in fields of view."""
    to_voxels = np.linalg.inv(files.affine[:-1, :-1])
    voxels = (places - files.affine[:-1, -1]) @ to_voxels.T
    size = np.array(files.shape)
    # Large pictures are often made much smaller for a network: fine waves would not survive it.
    length = np.maximum(WAVE_LENGTH, size / MOST_WAVES) if len(size) == 2 else WAVE_LENGTH
    parts = [
        40 * np.sin(2 * np.pi * (voxels / length) @ np.array(wave)[: len(size)] + phase)
        for phase, wave in enumerate(WAVES)
    ]
    return 125 + sum(parts), np.linalg.norm(voxels / (size - 1) - 0.5, axis=-1)


def mask_file(folder: Path, mask: Shaped[np.ndarray, "*grid"], grid: Grid) -> Path:
    """Write a mask beside made-up files."""
    if mask.ndim == 2:
        Image.fromarray(mask.astype(np.uint8)).save(folder / "mask.png")
        return folder / "mask.png"
    save_volume(folder / "mask.nii.gz", mask.astype(np.uint8), grid)
    return folder / "mask.nii.gz"


def grid_in_words(grid: Grid) -> str:
    """Describe the size of a grid."""
    return f"{'picture' if len(grid.shape) == 2 else 'volume'} of {format_shape(grid.shape)}"


def _write(folder: Path, subject: Subject, grid: Grid) -> dict[str, Path]:
    """Write a file for each of the adapter's inputs."""
    voxels = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    values, radius = waves(grid.to_mm(voxels), grid)
    files = {}
    for name in subject.adapter.files:
        if len(grid.shape) == 2:
            files[name] = folder / f"{name}.png"
            pixels = values.clip(0, 255).astype(np.uint8)
            colours = len(subject.adapter.channels) // len(subject.adapter.files)
            Image.fromarray(np.stack([pixels] * 3, -1) if colours == 3 else pixels).save(
                files[name]
            )
        else:
            files[name] = folder / f"{name}.nii.gz"
            save_volume(files[name], np.where(radius < EXTENT, values, 0), grid)
    return files
