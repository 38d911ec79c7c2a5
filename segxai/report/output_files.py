"""Files that a report writes: the folder they go to, and what keeps them from being written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segxai.errors import SegxaiError, one_line


def make_folder(folder: Path) -> None:
    """A folder to write to, with its parents. Raises SegxaiError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegxaiError(f"cannot make the folder {folder}: {error.strerror}") from error


@contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """What keeps a file from being written, as a line for the user: raises SegxaiError."""
    try:
        yield
    except OSError as error:
        raise SegxaiError(f"cannot write {path}: {one_line(error)}") from error
