"""Checks of the record: names and numbers that make sense, and a case that fits them."""

import numpy as np

from segxai.errors import unknown_name
from segxai.plugins.adapter import Adapter
from segxai.run.options import Options
from segxai.segment.prediction import SlidingWindow
from segxai.testing.subject import PLAIN, CheckFailedError
from segxai.types import Case


def check_record(adapter: Adapter) -> str:
    """Check that the record makes sense."""
    _check_criteria(adapter)
    for what in ("channels", "classes", "files"):
        names = getattr(adapter, what)
        if not names or len(set(names)) < len(names):
            raise CheckFailedError(f"{what} must be distinct names, found {names}")
    _check_prediction(adapter)
    _check_options(adapter)
    return ""


def _check_criteria(adapter: Adapter) -> None:
    """Check that the class exists."""
    index = adapter.criteria.class_index
    if index is not None and not 0 <= index < len(adapter.classes):
        raise CheckFailedError(f"no class {index}; known: 0 to {len(adapter.classes) - 1}")


def _check_prediction(adapter: Adapter) -> None:
    """Check the sizes of windows, and what turns logits into probabilities."""
    predict = adapter.predict
    if not isinstance(predict, PLAIN):
        return
    if predict.activation not in ("softmax", "sigmoid"):
        raise unknown_name("activation", predict.activation, ("softmax", "sigmoid"))
    if isinstance(predict, SlidingWindow):
        predict.layout(predict.size)
    elif predict.divisor < 1:
        raise CheckFailedError(f"divisor {predict.divisor}: give 1 or more")


def _check_options(adapter: Adapter) -> None:
    """Check that the options for the embedded case are valid."""
    Options.of(**adapter.embedded_options)


def check_case(adapter: Adapter, case: Case) -> str:
    """Check that the case fits the adapter."""
    _check_image(adapter, case)
    _check_grids(case)
    if not np.array_equal(adapter.embedded_case().image, case.image):
        raise CheckFailedError("loaded twice, the image differs: a run cannot be repeated on it")
    if isinstance(adapter.predict, PLAIN):
        adapter.predict.layout(case.grid.shape)
    return ""


def _check_image(adapter: Adapter, case: Case) -> None:
    channels = len(adapter.channels)
    if case.image.shape != (channels, *case.grid.shape):
        raise CheckFailedError(
            f"the image has shape {case.image.shape}, expected {channels} channels on the grid "
            f"{case.grid.shape}"
        )
    if case.channels != adapter.channels:
        raise CheckFailedError(
            f"the case has channels {case.channels}, the adapter's are {adapter.channels}"
        )
    if case.image.dtype != np.float32:
        raise CheckFailedError(f"the image is {case.image.dtype}, not float32")
    if not np.isfinite(case.image).all():
        raise CheckFailedError("the image has NaN or infinite values")
    if case.black is not None and not (
        len(case.black) == channels and np.isfinite(case.black).all()
    ):
        raise CheckFailedError(f"black is {case.black}: give one number for each channel, or None")
    if case.foreground.shape != case.grid.shape or not case.foreground.any():
        raise CheckFailedError("the foreground is empty or has another shape than the grid")


def _check_grids(case: Case) -> None:
    for name, grid in {"grid": case.grid, "source_grid": case.source_grid or case.grid}.items():
        rank = len(grid.shape)
        if grid.affine.shape != (rank + 1, rank + 1) or grid.voxel_volume_mm3 <= 0:
            raise CheckFailedError(
                f"the affine of the {name} has shape {grid.affine.shape} for {rank} axes, or is "
                "singular"
            )
    if case.domains_on_source and case.source_grid is None:
        raise CheckFailedError("domains lie on the source_grid, but there is none")
    wanted = case.domain_grid.shape
    if case.reference is not None and case.reference.shape != wanted:
        raise CheckFailedError(
            f"the reference has shape {case.reference.shape}, but instances lie on {wanted}"
        )
