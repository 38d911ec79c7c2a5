"""Arrays take as little room as zlib makes of them, and as much as was said before."""

from math import prod

import h5py
import numpy as np
import pytest

from segxai.store.compression import CHUNK_BYTES, chunks_of, packed_bytes, packing

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(2, 60, 60, 60)).astype(np.float32)
EIGHT_BITS = (RNG.poisson(8, size=(2, 60, 60, 60)) * 0.123 - 1).astype(np.float32)
ARRAYS = {
    "noise": NOISE,
    "a ball of noise": np.pad(RNG.normal(size=(1, 40, 40, 40)), ((0, 0), *([(20, 20)] * 3))),
    "a mask": np.pad(np.ones((40, 40, 40), np.int8), 20),
    "probabilities": RNG.beta(0.1, 5, size=(60, 60, 60)).astype(np.float16),
    "an image of 8 bits": EIGHT_BITS,
}


def stored_bytes(values, **options):
    with h5py.File("a.h5", "w") as file:
        stored = file.create_dataset("a", data=values, compression="gzip", **options)
        return stored.id.get_storage_size()


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_packed_bytes_are_those_that_hdf5_needs(values, folder):
    way = packing(values)
    options = {"compression_opts": way["complevel"], "shuffle": way["shuffle"]}
    size = stored_bytes(values, chunks=way["chunksizes"], **options)
    assert packed_bytes(values) == pytest.approx(size, rel=0.2, abs=5000)


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_a_trial_on_parts_finds_the_better_way(values, folder):
    way = packing(values)
    sizes = {
        shuffle: stored_bytes(values, compression_opts=4, shuffle=shuffle, chunks=way["chunksizes"])
        for shuffle in (True, False)
    }
    assert sizes[way["shuffle"]] <= 1.05 * min(sizes.values())


def test_the_way_depends_on_the_values():
    assert packing(NOISE)["shuffle"] is True
    assert packing(EIGHT_BITS)["shuffle"] is False
    assert packed_bytes(EIGHT_BITS) < 0.8 * packed_bytes(EIGHT_BITS, shuffle=True)


def test_nothing_takes_nothing():
    assert packed_bytes(np.empty((0, 3))) == 0


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((2, 144, 168, 96), (1, 16, 168, 96)),
        ((303, 384, 3), (227, 384, 3)),
        ((4000, 6000, 3), (14, 6000, 3)),
        ((10**7,), (2**18,)),
        ((3, 10**6), (1, 2**18)),
    ],
)
def test_a_chunk_lies_together_in_memory(shape, chunks):
    assert chunks_of(shape, 4) == chunks
    assert 4 * prod(chunks) <= CHUNK_BYTES
