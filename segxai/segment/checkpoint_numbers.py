"""Numbers beside the weights: what stands in for numpy when a checkpoint is read.

Training scripts save their losses and scores as numpy's scalars. To rebuild one, pickle calls
`numpy.dtype`, fills it with a state from the file, and lets numpy interpret bytes by it: a state
made by hand leads numpy to any address in memory. So none of numpy's own functions is called.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch

FORMATS = {  # of the module struct, by numpy's names
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}


class NumberKind(str):
    """The name of a kind of number: what stands in for `numpy.dtype`.

    Parameters
    ----------
    name : str
        Such as "f8".
    *settings : bool
        What numpy saves besides, which makes no difference to numbers.

    Raises
    ------
    UnpicklingError
        If it is not a kind of real number.
    """

    __slots__ = ()

    def __new__(cls, name: str, *settings: object) -> "NumberKind":
        """Check the name."""
        if name not in FORMATS:
            raise UnpicklingError(f"numbers of kind {name!r} are not read")
        return super().__new__(cls, name)

    def __setstate__(self, state: object) -> None:
        """Ignore what the file says of the layout: numbers are read as little-endian."""


def number(kind: NumberKind, raw: bytes) -> bool | int | float:
    """Build a number of Python: what stands in for numpy's `scalar`.

    Raises
    ------
    UnpicklingError
        If the bytes are not those of one number.
    """
    if type(kind) is not NumberKind or type(raw) is not bytes:
        raise UnpicklingError("a number is made of something else than its kind and its bytes")
    try:
        (found,) = struct.unpack(f"<{FORMATS[kind]}", raw)
    except struct.error as error:
        raise UnpicklingError(f"{len(raw)} bytes are not one number of kind {kind}") from error
    return found


STAND_INS: tuple[tuple[Any, str], ...] = (
    (NumberKind, "numpy.dtype"),
    (number, "numpy.core.multiarray.scalar"),  # in files that numpy 1 wrote
    (number, "numpy._core.multiarray.scalar"),
)


@contextmanager
def nothing_but_numbers() -> Iterator[None]:
    """Within the block, let torch's safe loader call our stand-ins, and no class of a library.

    Libraries such as MONAI allow classes of their own in the whole process when imported.
    """
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(list(STAND_INS))
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
