"""Size: how many bytes a result will take."""

from collections.abc import Sequence
from typing import Final

from segxai.segment.segmentation import Segmentation
from segxai.store.compression import packed_bytes
from segxai.store.schema import input_dataset, instances_dataset, segmentation_dataset
from segxai.types import Case, Instance

# HDF5's own tables, attributes and provenance: of a result, and of a run in it.
TABLES_BYTES: Final = 90_000
RUN_BYTES: Final = 125_000
MAP_BYTES: Final = 600  # place, facts and summary of a map


def result_bytes(case: Case, segmentation: Segmentation, instances: Sequence[Instance]) -> int:
    """Estimate the bytes of a result without its runs: image, prediction and instances."""
    groups = (
        input_dataset(case),
        segmentation_dataset(case, segmentation, list(instances)),
        instances_dataset(case, segmentation, list(instances)),
    )
    arrays = [one.values for group in groups for one in group.data_vars.values()]
    numbers = (one for one in arrays if one.dtype.kind in "fiu")
    return TABLES_BYTES + sum(packed_bytes(one) for one in numbers)
