"""A small held-out case of the recipe, with room around its brain."""

import numpy as np
from segxai_ms_lesion.recipe.cases import TrainingCase

SHAPE = (40, 40, 40)


def block(*corner: slice) -> np.ndarray:
    """A mask that is true in one box."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[corner] = True
    return mask


def held_out(*lesions: tuple[slice, ...]) -> TrainingCase:
    """A case whose lesions are the boxes; one of 64 voxels if none is given."""
    brain = block(*np.s_[4:36, 6:30, 4:36])
    labels = np.zeros(SHAPE, dtype=np.int16)
    for number, corner in enumerate(lesions or (np.s_[10:14, 10:14, 10:14],), start=1):
        labels[corner] = number
    return TrainingCase(np.stack([brain, 2 * brain]).astype(np.float16), labels)
