"""Checks of places: windows add up, and a case keeps the positions of its files in mm."""

import numpy as np
import torch
from jaxtyping import Float

from segxai.geometry import Grid
from segxai.load.resampling import mismatch, resample
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.prediction import SlidingWindow, predictor_for
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout
from segxai.testing.made_up import NO_FILES, file_grid, grid_in_words, made_up_files, waves
from segxai.testing.subject import PLAIN, CheckFailedError, Subject, in_words
from segxai.text import format_shape
from segxai.types import Case

LOWEST_CORRELATION = 0.95  # a shift by half a voxel leaves more, a shift by a whole voxel less
RIM = 0.42  # of the field of view: the inner part of what the picture shows


def check_windows(subject: Subject) -> str:
    """Check that the windows add up; returns how many there are."""
    adapter, case = subject.adapter, subject.case
    layout = subject.predictor.layout
    if isinstance(adapter.predict, PLAIN):
        layout = adapter.predict.layout(case.grid.shape if case else subject.image.shape[2:])
        single = adapter.predict.layout(subject.image.shape[2:])
        _check_single(subject, predictor_for(adapter.predict, subject.network, single))
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


def _check_single(subject: Subject, predictor: Predictor) -> None:
    """Check that an image the size of a window is predicted by that window alone."""
    alone = subject.logits()
    with torch.no_grad(), frozen(subject.network), exact_arithmetic():
        blended = predictor(subject.image)
    if (blended - alone).abs().max() > 1e-4 * alone.abs().max():
        raise CheckFailedError("an image the size of a window is not predicted like that window")


def check_places(subject: Subject) -> str:
    """Check that a known picture in files comes back at its places in mm; returns how well.

    The picture is made of waves, so that a flip, a swap of axes or a shift shows. Its files have
    another orientation than the embedded case.
    """
    grid = file_grid(subject)
    if grid is None:
        return NO_FILES
    with made_up_files(subject, grid) as files:
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


def _likeness(
    image: Float[np.ndarray, "channel *grid"], grid: Grid, files: Grid, case: Case
) -> list[float]:
    """Correlate each channel with the picture at the same places; raise if one is too low."""
    voxels = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    values, radius = waves(grid.to_mm(voxels), files)
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
