"""Size: how many bytes arrays will take in a result, estimated by compressing parts of them."""

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from segxai.segment.segmentation import Segmentation
from segxai.store.hdf5 import COMPRESSION
from segxai.store.schema import input_dataset, instances_dataset, segmentation_dataset
from segxai.types import Case, Instance

PART: Final = 2**16  # bytes that are compressed at once
MOST_PARTS: Final = 40
TABLES_BYTES: Final = 50_000  # HDF5's own tables, attributes and provenance of a result
MAP_BYTES: Final = 600  # place, facts and summary of a map


def result_bytes(case: Case, segmentation: Segmentation, instances: Sequence[Instance]) -> int:
    """Estimate the bytes of a result without its maps: image, prediction and instances."""
    groups = (
        input_dataset(case),
        segmentation_dataset(case, segmentation, list(instances)),
        instances_dataset(case, segmentation, list(instances)),
    )
    arrays = [one.values for group in groups for one in group.data_vars.values()]
    numbers = (one for one in arrays if one.dtype.kind in "fiu")
    return TABLES_BYTES + sum(compressed_bytes(one) for one in numbers)


def compressed_bytes(values: np.ndarray) -> int:
    """Estimate the bytes of an array in a result, by compressing evenly spread parts of it."""
    content = np.ascontiguousarray(values).ravel()
    step = max(PART // content.itemsize, 1)
    starts = np.arange(0, content.size, step)
    chosen = starts[np.linspace(0, len(starts) - 1, min(len(starts), MOST_PARTS)).astype(int)]
    parts = [content[start : start + step] for start in chosen]
    whole = sum(part.nbytes for part in parts)
    packed = sum(
        len(zlib.compress(_shuffled(part), int(COMPRESSION["complevel"]))) for part in parts
    )
    return round(packed * content.nbytes / whole) if whole else 0


def _shuffled(part: np.ndarray) -> bytes:
    """Put all first bytes of the numbers first, then all second ones, as HDF5 does."""
    return part.view(np.uint8).reshape(part.size, part.itemsize).T.tobytes()
