"""Output files of a report: the folder for them, and errors if they cannot be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segxai.errors import SegxaiError, one_line


def make_folder(folder: Path) -> None:
    """Create a folder to write to, with its parents. Raises SegxaiError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegxaiError(f"cannot make the folder {folder}: {error.strerror}") from error


@contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """Turn a failure to write a file into a SegxaiError: one line for the user."""
    try:
        yield
    except OSError as error:
        raise SegxaiError(f"cannot write {path}: {one_line(error)}") from error
