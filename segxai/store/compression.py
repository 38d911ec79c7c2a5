"""Compression: how the arrays of a result are packed, and how many bytes they will take.

All are packed by zlib without loss. Where the bytes of numbers are put in order first, all first
bytes, then all second ones (HDF5's "shuffle"), measured values take less room, but values that
repeat, such as an image of 8 bits after its normalisation, take up to twice as much: a trial on
parts of the array decides.
"""

import zlib
from typing import Any, Final

import numpy as np

LEVEL: Final = 4  # 9 saves 2 to 10 %, and takes five to ten times as long
CHUNK_BYTES: Final = 2**20  # what is packed and read at once: HDF5 keeps so much in memory
PART_BYTES: Final = 2**16  # of a trial
MOST_PARTS: Final = 40


def packing(values: np.ndarray) -> dict[str, Any]:
    """Choose how xarray writes an array of numbers that does not grow."""
    chunks = chunks_of(values.shape, values.itemsize)
    return {**packing_of_growing(shuffle=is_better_shuffled(values)), "chunksizes": chunks}


def packing_of_growing(*, shuffle: bool = True) -> dict[str, Any]:
    """Return how xarray writes an array of numbers, apart from its chunks."""
    return {"zlib": True, "complevel": LEVEL, "shuffle": shuffle}


def chunks_of(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut an array across its first axes only, so that a chunk lies together in memory."""
    chunks, room = [1] * len(shape), max(CHUNK_BYTES // itemsize, 1)
    for axis in reversed(range(len(shape))):
        chunks[axis] = max(min(shape[axis], room), 1)
        room //= chunks[axis]
    return tuple(chunks)


def is_better_shuffled(values: np.ndarray) -> bool:
    """Try on parts of an array whether it takes less room with its bytes in order."""
    parts = _parts(values)
    return _packed(parts, shuffle=True) < _packed(parts, shuffle=False)


def packed_bytes(values: np.ndarray, *, shuffle: bool | None = None) -> int:
    """Estimate the bytes of an array in a result, by packing evenly spread parts of it.

    Parameters
    ----------
    shuffle : bool, optional
        Whether its bytes are put in order; whichever takes less room if not given.
    """
    parts = _parts(values)
    whole = sum(part.nbytes for part in parts)
    ways = (True, False) if shuffle is None else (shuffle,)
    return round(min(_packed(parts, shuffle=way) for way in ways) * values.nbytes / (whole or 1))


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """Cut evenly spread parts out of an array, in the order in which it is written."""
    content = np.ascontiguousarray(values).ravel()
    step = max(PART_BYTES // content.itemsize, 1)
    starts = np.arange(0, content.size, step)
    chosen = starts[np.linspace(0, len(starts) - 1, min(len(starts), MOST_PARTS)).astype(int)]
    return [content[start : start + step] for start in chosen]


def _packed(parts: list[np.ndarray], *, shuffle: bool) -> int:
    return sum(len(zlib.compress(_bytes(part, shuffle=shuffle), LEVEL)) for part in parts)


def _bytes(part: np.ndarray, *, shuffle: bool) -> bytes:
    """Return the bytes of some numbers, perhaps all first bytes first, then all second ones."""
    if not shuffle:
        return part.tobytes()
    return part.view(np.uint8).reshape(part.size, part.itemsize).T.tobytes()
