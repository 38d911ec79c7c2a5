"""Limits: how large an image may be, checked before its voxels are read.

A file of a few bytes can declare any size. The limit holds for files and for what they become.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from segxai.errors import SegxaiError
from segxai.text import format_shape

DEFAULT = 300_000_000  # voxels, or pixels
_largest: ContextVar[int] = ContextVar("largest", default=DEFAULT)


@contextmanager
def at_most(voxels: int | None) -> Iterator[None]:
    """Set the largest number of voxels of an image within the block; None leaves it as it is.

    Raises
    ------
    SegxaiError
        If it is not positive.
    """
    if voxels is not None and voxels < 1:
        raise SegxaiError(f"--max-voxels is {voxels}; give a positive number")
    before = _largest.set(largest() if voxels is None else voxels)
    try:
        yield
    finally:
        _largest.reset(before)


def largest() -> int:
    """Return the largest number of voxels, or pixels, that an image may have."""
    return _largest.get()


def check_size(shape: Iterable[int], what: str) -> None:
    """Check that an image is not too large to be read or computed.

    Parameters
    ----------
    shape : iterable of int
        Its size along each axis.
    what : str
        What it is, for the message, such as "flair file a.nii.gz".

    Raises
    ------
    SegxaiError
        If it has more voxels than `--max-voxels` allows.
    """
    sizes = [int(size) for size in shape]
    count = math.prod(sizes)
    if count > largest():
        raise SegxaiError(
            f"{what} has {format_shape(sizes)} = {count:.3g} voxels, and at most {largest():.3g} "
            "are allowed; crop or resample it, or give a larger --max-voxels"
        )
