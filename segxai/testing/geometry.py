"""Checks of places: windows add up, and a case keeps the positions of its files in mm."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float

from segxai.geometry import Grid
from segxai.load.resampling import mismatch, resample
from segxai.load.volumes import save_volume
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.prediction import SlidingWindow
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout
from segxai.testing.subject import PLAIN, CheckFailedError, Subject, in_words
from segxai.text import format_shape
from segxai.types import Case

IMAGE_SHAPES = {2: (48, 40), 3: (32, 28, 24)}  # where there is no embedded case
LOWEST_CORRELATION = 0.95  # a shift by half a voxel leaves more, a shift by a whole voxel less
WAVES = ((1.0, 0.8, 0.9), (0.9, -1.0, 0.7), (-0.7, 0.8, 1.0))  # along each axis, in wavelengths
WAVE_LENGTH, MOST_WAVES = 12, 24  # of a wave, in the file's voxels; waves across a picture
RIM = 0.42  # of the field of view: the inner part of what the picture shows


def check_windows(subject: Subject) -> str:
    """Check that the windows add up; returns how many there are."""
    adapter, case = subject.adapter, subject.case
    layout = subject.predictor.layout
    if isinstance(adapter.predict, PLAIN):
        layout = adapter.predict.layout(case.grid.shape if case else subject.image.shape[2:])
        _check_single(subject, adapter.predict.layout(subject.image.shape[2:]))
    elif subject.prediction is not None:
        layout = subject.prediction.predictor.layout
    _check_shares(layout)
    if not isinstance(adapter.predict, SlidingWindow) and len(layout.windows) == 1:
        return "the whole image at once"
    return f"{len(layout.windows)} of {format_shape(layout.windows[0].size)} voxels"


def _check_shares(layout: Layout) -> None:
    total = torch.zeros(layout.shape)
    for window in layout.windows:
        total[window.inside(layout.shape).index] += layout.share(window)
    if (total - 1).abs().max() > 1e-4:
        raise CheckFailedError(
            f"the shares of the windows in a voxel sum to {float(total.min()):.3g} to "
            f"{float(total.max()):.3g}, not to 1"
        )


def _check_single(subject: Subject, layout: Layout) -> None:
    """Check that an image the size of a window is predicted by that window alone."""
    alone = subject.logits()
    with torch.no_grad(), frozen(subject.network), exact_arithmetic():
        blended = Predictor(subject.network, layout)(subject.image)
    if (blended - alone).abs().max() > 1e-4 * alone.abs().max():
        raise CheckFailedError("an image the size of a window is not predicted like that window")


def check_places(subject: Subject) -> str:
    """Check that a known picture in files comes back at its places in mm; returns how well.

    The picture is made of waves, so that a flip, a swap of axes or a shift shows. Its files have
    another orientation than the embedded case.
    """
    if subject.image.ndim - 2 not in IMAGE_SHAPES:
        return "skipped, it is neither a picture nor a volume"
    grid = _file_grid(subject)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever looks wrong with such a picture
        files = _write(Path(folder), subject, grid)
        try:
            case = subject.adapter.load_case(files)
        except Exception as error:  # somebody else's code, and files that it need not take
            return f"skipped, load_case takes no made-up file: {in_words(error)}"
    moved = mismatch("the file", grid, "source_grid", case.source_grid or case.grid)
    if moved:
        raise CheckFailedError(f"source_grid is not the file's: {moved}")
    there = min(_likeness(case.image, case.grid, grid, case))
    back = min(_likeness(resample(case.image, case.grid, grid, order=1), grid, grid, case))
    return f"a made-up {grid_in_words(grid)} comes back (correlation {min(there, back):.3f})"


def grid_in_words(grid: Grid) -> str:
    """Describe the size of a grid."""
    return f"{'picture' if len(grid.shape) == 2 else 'volume'} of {format_shape(grid.shape)}"


def _likeness(
    image: Float[np.ndarray, "channel *grid"], grid: Grid, files: Grid, case: Case
) -> list[float]:
    """Correlate each channel with the picture at the same places; raise if one is too low."""
    voxels = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    values, radius = _picture(grid.to_mm(voxels), files)
    inside = radius < RIM
    found = []
    for name, channel in zip(case.channels, image, strict=True):
        known = channel[inside]
        spread = known.size > 1 and np.ptp(known) > 0
        likeness = float(np.corrcoef(known, values[inside])[0, 1]) if spread else 0.0
        if not likeness >= LOWEST_CORRELATION:
            raise CheckFailedError(
                f"channel {name}: what a file shows at a place in mm lies elsewhere in its case "
                f"(correlation {likeness:.2f}): the affine of grid does not fit the image"
            )
        found.append(likeness)
    return found


def _picture(
    places: Float[np.ndarray, "*points axis"], files: Grid
) -> tuple[Float[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
    """Compute waves at places in mm, and their distance from the middle, in fields of view."""
    to_voxels = np.linalg.inv(files.affine[:-1, :-1])
    voxels = (places - files.affine[:-1, -1]) @ to_voxels.T
    size = np.array(files.shape)
    # Large pictures are often made much smaller for a network: fine waves would not survive it.
    length = np.maximum(WAVE_LENGTH, size / MOST_WAVES) if len(size) == 2 else WAVE_LENGTH
    waves = [
        40 * np.sin(2 * np.pi * (voxels / length) @ np.array(wave)[: len(size)] + phase)
        for phase, wave in enumerate(WAVES)
    ]
    return 125 + sum(waves), np.linalg.norm(voxels / (size - 1) - 0.5, axis=-1)


def _file_grid(subject: Subject) -> Grid:
    """Build the grid of the files: in 3D with the case's spacing, its axes swapped and flipped."""
    rank = subject.image.ndim - 2
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


def _write(folder: Path, subject: Subject, grid: Grid) -> dict[str, Path]:
    """Write a file for each of the adapter's inputs."""
    voxels = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    values, radius = _picture(grid.to_mm(voxels), grid)
    files = {}
    for name in subject.adapter.files:
        if len(grid.shape) == 2:
            from PIL import Image

            files[name] = folder / f"{name}.png"
            pixels = values.clip(0, 255).astype(np.uint8)
            colours = len(subject.adapter.channels) // len(subject.adapter.files)
            Image.fromarray(np.stack([pixels] * 3, -1) if colours == 3 else pixels).save(
                files[name]
            )
        else:
            files[name] = folder / f"{name}.nii.gz"
            save_volume(files[name], np.where(radius < 0.48, values, 0), grid)
    return files
