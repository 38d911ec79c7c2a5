"""Signs that hold in all runs: a map of its own for each instance."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from segxai.compare.neighbourhood import REACH_MM, Neighbourhood, intersection
from segxai.types import Attribution


def held_signs(near: Sequence[Neighbourhood]) -> Attribution | None:
    """Mark the voxels whose sign is the same in all maps of an instance.

    Parameters
    ----------
    near : sequence of Neighbourhood
        The maps, with channels.

    Returns
    -------
    Attribution, optional
        1 where all maps are positive, -1 where all are negative, 0 elsewhere and beyond 20 mm from
        any of the domains; on the shared grid. None if the maps do not meet.
    """
    box = near[0].box
    for one in near[1:]:
        common = intersection(box, one.box)
        if common is None:
            return None
        box = common
    cut = [one.in_box(box) for one in near]
    signs = [np.sign(one.values) * (one.distance <= REACH_MM) for one in cut]
    held = reduce(lambda first, other: np.where(first == other, first, 0), signs)
    facts = {"estimate": False, "runs": len(near)}
    unit = f"sign in all {len(near)} runs"
    return Attribution(near[0].label, held.astype(np.float32), box.start, None, facts, unit)
