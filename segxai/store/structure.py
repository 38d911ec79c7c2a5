"""Structure: a result file holds all that it shows, and no more than it can hold.

HDF5 can follow links to other files, read raw bytes from them, and declare arrays of any size.
Files come from strangers: they are walked once, before anything in them is read.
"""

from collections.abc import Iterator
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from struct import Struct
from typing import Any, Final

import h5py

from segxai.store.refusal import DamageError

DEFLATE_LIMIT: Final = 1100  # deflate makes nothing more than 1032 times smaller
ALWAYS_PLAUSIBLE_BYTES: Final = 2**20  # dimensions without values are declared, not stored
MOST_AXES: Final = 5
MOST_LEVELS: Final = 8
BARE_AXIS: Final = b"This is a netCDF dimension but not a netCDF variable"
HEAP: Final = b"GCOL\x01\0\0\0"
LENGTH: Final = Struct("<Q")
ENTRY: Final = Struct("<HH4xQ")  # number, links to it, length
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
KINDS = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING}


def check_heaps(path: Path) -> None:
    """Check the places where a file keeps its words: HDF5 reads a broken one for ever.

    Takes about a second for each gigabyte.

    Raises
    ------
    DamageError
        If an entry has no length.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            _check_heap(content, start)
            start = content.find(HEAP, start + len(HEAP))


def _check_heap(content: mmap, start: int) -> None:
    """Follow the entries of a heap from its start to its end, as HDF5 does."""
    (size,) = LENGTH.unpack_from(content, start + len(HEAP)) if _holds(content, start) else (0,)
    entry, end = start + 2 * len(HEAP), min(start + size, len(content))
    while entry + ENTRY.size <= end:
        number, _, length = ENTRY.unpack_from(content, entry)
        # Entry 0 is what is free: its length is that of all of it.
        step = length if number == 0 else ENTRY.size + -(-length // 8) * 8
        if not step:
            raise DamageError(f"the words at byte {entry} have no end")
        entry += step


def _holds(content: mmap, start: int) -> bool:
    return start + 2 * len(HEAP) <= len(content)


def check_structure(file: h5py.File) -> None:
    """Check that a file has nothing but groups and arrays, each reached once and stored within.

    Takes about 0.1 ms for each array, and reads no values.

    Raises
    ------
    DamageError
        If a link is not a hard link, two lead to one object (as in a cycle), an array's values are
        in another file, or an array claims to be larger than what is stored can be.
    """
    seen = {_address(file)}
    for name, item in _items(file, 1):
        address = _address(item)
        if address in seen:
            raise DamageError(f"two links lead to {name}")
        seen.add(address)
        if isinstance(item, h5py.Dataset):
            _check_array(name, item)
            _check_axis(name, item, file)


def _check_axis(name: str, scale: h5py.Dataset, file: h5py.File) -> None:
    """Check that all arrays along an axis that can grow are as long as it is.

    Shorter ones would be filled up when they are read, in memory.
    """
    if scale.maxshape != (None,) or "REFERENCE_LIST" not in scale.attrs:
        return
    lengths = {file[array].shape[axis] for array, axis in scale.attrs["REFERENCE_LIST"]}
    is_bare = h5py.h5ds.get_scale_name(scale.id).startswith(BARE_AXIS)
    if len(lengths) > 1 or not {len(scale)} <= (lengths | {0} if is_bare else lengths):
        raise DamageError(f"arrays along {name} have different lengths")


def _address(item: Any) -> int:
    address: int = h5py.h5o.get_info(item.id).addr
    return address


def _items(group: h5py.Group, level: int) -> Iterator[tuple[str, Any]]:
    """Yield everything below a group; the caller stops at an object that it has seen before."""
    for child in group:
        name = f"{group.name.rstrip('/')}/{child}"
        if level > MOST_LEVELS:
            raise DamageError(f"{name} lies too deep")
        if not isinstance(group.get(child, getlink=True), h5py.HardLink):
            raise DamageError(f"{name} is a link to something else")
        item = group[child]
        if not isinstance(item, h5py.Group | h5py.Dataset):
            raise DamageError(f"{name} is neither a group nor an array")
        yield name, item
        if isinstance(item, h5py.Group):
            yield from _items(item, level + 1)


def _check_array(name: str, array: h5py.Dataset) -> None:
    """Check that the values of an array are of a known kind, stored in the file, and plausible."""
    layout = array.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise DamageError(f"the values of {name} are in another file")
    filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
    if not filters <= FILTERS:
        raise DamageError(f"{name} is compressed in an unknown way")
    if array.id.get_type().get_class() not in KINDS or array.dtype.itemsize > 16:
        raise DamageError(f"{name} holds neither numbers nor words")
    if array.shape is None or len(array.shape) > MOST_AXES:
        raise DamageError(f"{name} has an impossible shape")
    sizes = [prod(shape) for shape in (array.shape, array.chunks) if shape]
    stored = array.id.get_storage_size()
    if max(sizes, default=1) * array.dtype.itemsize > ALWAYS_PLAUSIBLE_BYTES + (
        DEFLATE_LIMIT * stored if filters else stored
    ):
        shape = " x ".join(map(str, array.shape))
        raise DamageError(f"{name} claims {shape} values, but {stored} bytes are stored")
