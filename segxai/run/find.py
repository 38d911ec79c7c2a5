"""Finding: the instances of a case, in what the user gives or in the prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from segxai.errors import SegxaiError, option
from segxai.geometry import Box, Grid
from segxai.instances import balls, from_labels
from segxai.load.masks import load_mask
from segxai.load.resampling import mismatch
from segxai.run.options import Balls, Mask, Predicted, Source
from segxai.segment.prediction import Prediction
from segxai.segment.segmentation import Segmentation
from segxai.store.hdf5 import open_result
from segxai.store.reader import domains_of
from segxai.store.schema import domain_grid_of
from segxai.text import format_shape
from segxai.types import Case, Instance, InstanceCriteria


def find(
    prediction: Prediction,
    segmentation: Segmentation,
    case: Case,
    criteria: InstanceCriteria,
    source: Source,
) -> list[Instance]:
    """Find all instances of a case: in what the user gives, or else in the prediction.

    Raises
    ------
    SegxaiError
        If there is none.
    """
    if isinstance(source, Predicted):
        return prediction.instances(segmentation, criteria, case)
    grid, index = case.domain_grid, prediction.class_logit(criteria)
    if isinstance(source, Balls):
        return balls(source.balls, grid, index)
    if isinstance(source, Mask):
        labels = load_mask(source.path, case)
        return from_labels(labels, index, split=source.split, grid=grid)
    return instances_of_result(source.path, grid, index)


def instances_of_result(path: Path, grid: Grid, class_index: int) -> list[Instance]:
    """Read the domains of another result, to explain them on this model.

    The models may have cropped the image differently: voxels must be the same, and no domain may
    reach outside of this grid.

    Raises
    ------
    SegxaiError
        If they lie on another grid.
    """
    with open_result(path) as tree:
        theirs = domain_grid_of(tree)
        place = theirs.place_on(grid)
        if place is None:
            problem = mismatch("this case", grid, path.name, theirs) or "its axes differ"
            raise SegxaiError(
                f"{option('instances', path)}: {problem}; give a result of this image"
            )
        moved = {label: voxels + place for label, voxels in domains_of(tree).items()}
    outside = [label for label, voxels in moved.items() if not _is_on(grid, voxels)]
    if outside:
        listed = ", ".join(map(str, outside))
        raise SegxaiError(
            f"{option('instances', path)}: instances {listed} reach outside of the "
            f"{format_shape(grid.shape)} voxels that this model sees; explain others, or a mask"
        )
    return [Instance(label, voxels, class_index) for label, voxels in moved.items()]


def _is_on(grid: Grid, voxels: Int[np.ndarray, "voxel axis"]) -> bool:
    return bool(Box.whole(grid.shape).contains(voxels).all())


def objects_in(case: Case, instances: Sequence[Instance]) -> Bool[np.ndarray, "*grid"]:
    """Mark where objects of the class are: in the expert's reference, or else in the prediction."""
    if case.reference is not None:
        return case.reference
    objects = np.zeros(case.domain_grid.shape, dtype=bool)
    for instance in instances:
        objects[tuple(instance.voxels.T)] = True
    return objects
