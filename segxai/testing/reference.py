"""Check of the reference: an expert's mask can be read, and decides about outcomes."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.testing.made_up import NO_FILES, file_grid, made_up_files, mask_file
from segxai.testing.subject import CheckFailedError, Subject, in_words

CENTRE, RADIUS = (0.42, 0.55, 0.6), 0.15  # of what is drawn, in fields of view


def check_reference(subject: Subject) -> str:
    """Check that a reference is read and honoured; returns what could be checked."""
    return "; ".join((_check_reading(subject), _check_outcomes(subject)))


def _check_reading(subject: Subject) -> str:
    """Check that files that can be read alone can be read with a reference on their grid."""
    grid = file_grid(subject)
    if grid is None:
        return NO_FILES
    with made_up_files(subject, grid) as files:
        mask = mask_file(next(iter(files.values())).parent, _drawn(grid), grid)
        try:
            subject.adapter.load_case(files)
        except Exception:  # somebody else's code, and files that it need not take
            return "skipped, load_case takes no made-up file"
        try:
            subject.adapter.read(files, mask)
        except SegxaiError as error:
            raise CheckFailedError(
                f"a reference on the grid of the files is refused: {in_words(error)}"
            ) from error
    return "it can be read"


def _check_outcomes(subject: Subject) -> str:
    """Check that an instance that was drawn is a TP, and one that was not is an FP."""
    if subject.case is None:
        return "outcomes skipped, there is no embedded case"
    prediction, segmentation = subject.prediction_of_case
    bare = replace(subject.case, reference=None)
    criteria = subject.adapter.criteria
    (first, *others) = prediction.instances(segmentation, criteria, bare)
    drawn = first.mask(bare.domain_grid.shape)
    again = prediction.instances(segmentation, criteria, replace(bare, reference=drawn))
    outcomes = {one.label: one.outcome for one in again}
    apart = [one for one in others if not drawn[tuple(one.voxels.T)].any()]
    wrong = {first.label: "TP", **{one.label: "FP" for one in apart}}.items() - outcomes.items()
    if wrong:
        label, outcome = min(wrong)
        raise CheckFailedError(
            f"instance {label} is {outcomes.get(label) or 'without an outcome'}, not {outcome}, "
            f"if instance {first.label} alone was drawn"
        )
    return f"outcomes of {len(outcomes)} instances follow it"


def _drawn(grid: Grid) -> Bool[np.ndarray, "*grid"]:
    """Draw a ball inside of what the made-up files show."""
    size = np.array(grid.shape)
    places = np.moveaxis(np.indices(grid.shape), 0, -1) / (size - 1)
    return np.asarray(np.linalg.norm(places - CENTRE[: len(size)], axis=-1) < RADIUS)
