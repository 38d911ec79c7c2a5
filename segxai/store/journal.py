"""Journal: finished maps of a run that are not in the result file yet.

`.r.h5.journal` lies beside `r.h5` while it is written, and gets one record for each map. A record
is its length, its CRC-32, the length of its header, the header (JSON) and the values. What a dying
process left of its last record is ignored.
"""

import json
import os
import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path
from struct import Struct
from time import monotonic
from typing import Any, Final
from zlib import crc32

import numpy as np

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.store.atomic_file import NO_LINK, failures_of, journal_file
from segxai.store.maps import KINDS, FinishedMap
from segxai.store.records import check_record, parsed
from segxai.store.refusal import DamageError

FRAME: Final = Struct("<QL")  # length and CRC-32 of what follows
LENGTH: Final = Struct("<L")
SECONDS_BETWEEN: Final = 1.0  # flushes to the disk, which take longer than writing a small map
VALUES: Final = ("map", "standard_error", "domain")
HEADER: Final[dict[str, Any]] = {
    "owner": str,
    "run": str,
    "label": int,
    "channels": [str],
    "axes": [str],
    "domain_axes": [str],
    "box": [[int]],
    "domain_box": [[int]],
    "has_error": bool,
    "unit": str,
    "facts": str,
}


class Journal:
    """The journal of a result file.

    Parameters
    ----------
    result : Path
        The result file.
    owner : str
        Identifies the result. Records of another one, which had the same name, are not read.
    """

    def __init__(self, result: Path, owner: str) -> None:
        self.path = journal_file(result)
        self._result = result
        self._owner = owner
        self._flushed = 0.0

    def add(self, run: str, one: FinishedMap) -> None:
        """Add a map, which survives the process from now on.

        It survives the machine, too, once the disk has it: within a second, if more maps follow.

        Raises
        ------
        SegxaiError
            If it cannot be written.
        """
        record = _record(self._owner, run, one)
        with failures_of(self._result):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o600)
            with open(descriptor, "ab") as file:
                os.fchmod(descriptor, stat.S_IMODE(self._result.stat().st_mode))
                file.write(record)
                file.flush()
                if monotonic() > self._flushed + SECONDS_BETWEEN:
                    os.fsync(descriptor)
                    self._flushed = monotonic()

    def read(self) -> list[tuple[str, FinishedMap]]:
        """Read the maps of this result, and the run of each.

        Raises
        ------
        SegxaiError
            If the journal is a link.
        DamageError
            If a record is complete, but not one of segxai.
        """
        found = []
        for record in _records(self._content()):
            header, one = _parsed(record)
            if header["owner"] == self._owner:
                found.append((header["run"], one))
        return found

    def remove(self) -> None:
        """Remove the journal: all of its maps are in the result."""
        self.path.unlink(missing_ok=True)

    def _content(self) -> bytes:
        if self.path.is_symlink():
            raise SegxaiError(f"{self.path} is a symbolic link, which is not followed: remove it")
        if not self.path.is_file():
            return b""
        with open(os.open(self.path, os.O_RDONLY | NO_LINK), "rb") as file:
            return file.read()


def _record(owner: str, run: str, one: FinishedMap) -> bytes:
    facts = {
        "owner": owner,
        "run": run,
        "label": one.label,
        "channels": one.channels,
        "axes": one.axes,
        "domain_axes": one.domain_axes,
        "box": [one.box.start, one.box.size],
        "domain_box": [one.domain_box.start, one.domain_box.size],
        "has_error": one.standard_error is not None,
        "unit": one.unit,
        "facts": one.facts,
    }
    header = json.dumps(facts).encode()
    values = b"".join(one.parts[name].tobytes() for name in VALUES)
    content = LENGTH.pack(len(header)) + header + values
    return FRAME.pack(len(content), crc32(content)) + content


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the complete records."""
    place = 0
    while place + FRAME.size <= len(content):
        length, checksum = FRAME.unpack_from(content, place)
        record = content[place + FRAME.size : place + FRAME.size + length]
        if len(record) < length or crc32(record) != checksum:
            return
        yield record
        place += FRAME.size + length


def _parsed(record: bytes) -> tuple[dict[str, Any], FinishedMap]:
    """Take a record apart; its values fill its boxes."""
    if len(record) < LENGTH.size:
        raise DamageError("a record has no header")
    start = LENGTH.size + LENGTH.unpack_from(record)[0]
    header = parsed(record[LENGTH.size : start], "a map")
    check_record(header, HEADER, "a map", whole=True)
    box, domain_box = _box(header, "box", "axes"), _box(header, "domain_box", "domain_axes")
    channels = tuple(header["channels"])
    shape = (len(channels), *box.size) if channels else box.size
    shapes = {"map": shape, "standard_error": shape, "domain": domain_box.size}
    if not header["has_error"]:
        shapes["standard_error"] = (0,)
    parts = _arrays(record[start:], shapes)
    return header, FinishedMap(
        label=header["label"],
        channels=channels,
        axes=tuple(header["axes"]),
        domain_axes=tuple(header["domain_axes"]),
        box=box,
        domain_box=domain_box,
        values=parts["map"],
        standard_error=parts["standard_error"] if header["has_error"] else None,
        domain=parts["domain"],
        unit=header["unit"],
        facts=header["facts"],
    )


def _box(header: dict[str, Any], name: str, axes: str) -> Box:
    start, size = header[name] if len(header[name]) == 2 else ([], [])
    if not len(start) == len(size) == len(header[axes]) or min(size, default=0) < 1:
        raise DamageError(f"the {name} of a map is none")
    return Box(tuple(start), tuple(size))


def _arrays(content: bytes, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Cut the values of a record into arrays of these shapes."""
    counts = {name: prod(shape) for name, shape in shapes.items()}
    if sum(counts[name] * np.dtype(KINDS[name]).itemsize for name in shapes) != len(content):
        raise DamageError("a map has not as many values as its box has voxels")
    found, place = {}, 0
    for name, shape in shapes.items():
        found[name] = np.frombuffer(content, KINDS[name], counts[name], place).reshape(shape)
        place += found[name].nbytes
    return found
