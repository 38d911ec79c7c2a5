"""What a result will take on disk is what it takes."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.size import compressed_bytes, result_bytes
from segxai.types import Case
from tests.store.results import instance

RNG = np.random.default_rng(0)
ARRAYS = {
    "noise": RNG.normal(size=(2, 60, 60, 60)).astype(np.float32),
    "a ball of noise": np.pad(RNG.normal(size=(1, 40, 40, 40)), ((0, 0), *([(20, 20)] * 3))),
    "a mask": np.pad(np.ones((40, 40, 40), np.int8), 20),
    "probabilities": RNG.beta(0.1, 5, size=(60, 60, 60)).astype(np.float16),
}


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_compressed_bytes_are_those_that_hdf5_needs(values, folder):
    with h5py.File("a.h5", "w") as file:
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        stored = file.create_dataset("a", data=values, chunks=True, **options)
        size = stored.id.get_storage_size()
    assert compressed_bytes(values) == pytest.approx(size, rel=0.2, abs=5000)


def test_nothing_takes_nothing():
    assert compressed_bytes(np.empty((0, 3))) == 0


def test_the_size_of_a_result_without_maps(folder):
    shape = (60, 50, 40)
    image = RNG.normal(size=(2, *shape)).astype(np.float32)
    case = Case("c", image, ("a", "b"), Grid.unit(shape), np.ones(shape, dtype=bool))
    logits = RNG.normal(size=(2, *shape)).astype(np.float32)
    segmentation, found = Segmentation.of(logits, ("rest", "lesion")), [instance()]
    hdf5.create(Path("r.h5"), case, segmentation, found, {})
    said = result_bytes(case, segmentation, found)
    assert said == pytest.approx(Path("r.h5").stat().st_size, rel=0.2)
