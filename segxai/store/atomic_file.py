"""Drafts: a file changes as a whole or not at all, and by one process at a time.

Beside a result `r.h5` lie, while it is written, `.r.h5.draft` and `.r.h5.lock`; and, until its
instance is stored, `.r.h5.unfinished` (see `segxai.run.resume`), which has a draft of its own.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segxai.errors import SegxaiError, one_line
from segxai.text import size


@contextmanager
def replacing(path: Path, *, copy: bool = True) -> Iterator[Path]:
    """A draft beside the file, which takes its place when the block ends well.

    Parameters
    ----------
    copy : bool
        Whether the draft starts as a copy of the file, or does not exist yet.

    Raises
    ------
    SegxaiError
        If the draft cannot be written; the file is as it was.
    """
    draft = _draft(path)
    with _failures_of(path):
        try:
            draft.unlink(missing_ok=True)
            if copy:
                shutil.copyfile(path, draft)
            yield draft
            _flush(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _failures_of(path: Path) -> Iterator[None]:
    """What keeps a file from being written, as a line for the user."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        raise SegxaiError(
            f"cannot write {path}: {_reason(error)} ({_room(path.parent)}); what was finished is "
            "kept: mend that, and give the same command again"
        ) from error


def _reason(error: Exception) -> str:
    """The system's words: HDF5 wraps them into a page of its own."""
    quoted = re.search(r"error message = '([^']+)'", str(error))
    if quoted:
        return quoted[1]
    return (isinstance(error, OSError) and error.strerror) or one_line(error)


def _room(folder: Path) -> str:
    try:
        return f"{size(shutil.disk_usage(folder).free)} free"
    except OSError:
        return "its folder is gone"


def state_file(path: Path) -> Path:
    """Where the state of a result's instance in work is kept: it survives the process."""
    return _beside(path, "unfinished")


def _draft(path: Path) -> Path:
    return _beside(path, "draft")


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Nobody else writes the file while the block runs; what a dead process left is removed.

    The lock is the kernel's, on a file beside it: it ends with the process that holds it, whatever
    that dies of. Where the file system has no locks there is none.

    Raises
    ------
    SegxaiError
        If another process writes the file, or its folder cannot be written to.
    """
    lock = _beside(path, "lock")
    with _failures_of(path):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, lock, path)
        try:
            for draft in (_draft(path), _draft(state_file(path))):
                draft.unlink(missing_ok=True)
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _take(descriptor: int, lock: Path, path: Path) -> None:
    import fcntl  # not on Windows, where results can still be read

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(descriptor), lock.stat())
    except (BlockingIOError, FileNotFoundError):  # held, or removed by its last holder just now
        is_ours = False
    except OSError:  # a file system without locks
        return
    if not is_ours:
        raise SegxaiError(
            f"another process is writing {path}; wait until it ends, or name another --out"
        )
