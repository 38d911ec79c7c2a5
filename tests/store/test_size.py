"""What a result will take on disk is what it takes."""

from pathlib import Path

import numpy as np
import pytest

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.size import result_bytes
from segxai.types import Case
from tests.store.results import instance

RNG = np.random.default_rng(0)


def test_the_size_of_a_result_without_maps(folder):
    shape = (60, 50, 40)
    image = RNG.normal(size=(2, *shape)).astype(np.float32)
    case = Case("c", image, ("a", "b"), Grid.unit(shape), np.ones(shape, dtype=bool))
    logits = RNG.normal(size=(2, *shape)).astype(np.float32)
    segmentation, found = Segmentation.of(logits, ("rest", "lesion")), [instance()]
    hdf5.create(Path("r.h5"), case, segmentation, found, {})
    said = result_bytes(case, segmentation, found)
    assert said == pytest.approx(Path("r.h5").stat().st_size, rel=0.2)
