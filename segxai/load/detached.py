"""Detached voxels: headers that name the files of their voxels, which must lie beside them."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from segxai.errors import SegxaiError

META, NRRD = (".mhd", ".mha"), (".nhdr", ".nrrd")
# The libraries that read them differ in what they skip: each line that may count is checked.
META_FIELD = re.compile(rb"elementdatafile[\s=:]*(.*)", re.IGNORECASE)
NRRD_FIELD = re.compile(rb"\s*data ?file:(?!=)(.*)", re.IGNORECASE)
ATTACHED = re.compile(rb"ElementDataFile\s*[=:]\s*LOCAL\s*")  # voxels follow, in the same file
LIST = "LIST"  # the names are in the lines that follow


def detached_files(header: Path) -> list[Path]:
    """List the files in which a MetaImage or NRRD header says that its voxels are.

    Raises
    ------
    SegxaiError
        If one is not in the header's folder: a header of a stranger could name any file.
    """
    suffix = header.suffix.lower()
    if suffix not in (*META, *NRRD) or not header.is_file():
        return []
    with header.open("rb") as lines:
        fields = _fields(META_FIELD.search, _meta_lines(lines))
        if suffix in NRRD:
            fields = _fields(NRRD_FIELD.match, _nrrd_lines(lines))
        return [_beside(header, name) for name in fields]


def require_beside(header: Path, file: Path) -> None:
    """Check that a file lies in a header's folder or below it, wherever links lead.

    Raises
    ------
    SegxaiError
        If it does not.
    """
    if not file.resolve().is_relative_to(header.parent.resolve()):
        raise SegxaiError(
            f"{header.name} takes its voxels from {file}, which is not in its folder; if you trust "
            "it, put both files in one folder"
        )


def _beside(header: Path, name: str) -> Path:
    if "%" in name:
        raise SegxaiError(
            f"{header.name} names the files of its voxels by a pattern, {name!r}, which is not "
            "read; list them, or convert it to NIfTI (.nii.gz)"
        )
    require_beside(header, header.parent / name)
    return header.parent / name


def _meta_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a MetaImage's header."""
    for line in lines:
        if ATTACHED.fullmatch(line):
            return
        yield line


def _nrrd_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of an NRRD's header, up to an empty one, without its comments."""
    for line in lines:
        if not line.strip(b"\r\n"):
            return
        if not line.startswith(b"#"):
            yield line


def _fields(
    field: Callable[[bytes], re.Match[bytes] | None], lines: Iterable[bytes]
) -> Iterator[str]:
    """Yield the names in a field, and those that it announces in the lines that follow."""
    is_listed = False
    for line in lines:
        match = field(line)
        value = match[1] if match else line if is_listed else b""
        name = value.strip().decode("utf-8", "surrogateescape")
        is_list = name.split(" ")[0] == LIST
        is_listed = is_listed or is_list
        if name and not is_list:
            yield name
