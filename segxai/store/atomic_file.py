"""Atomic files: a file changes as a whole or not at all, and by one process at a time.

While a result `r.h5` is written, `.draft-r.h5` and `.r.h5.lock` lie beside it. The state of an
unfinished instance is in `.r.h5.unfinished` (see `segxai.run.resume`), which has its own draft, and
maps that wait for the file are in `.r.h5.journal` (see `segxai.store.journal`).
Drafts keep the ending of the name, from which libraries choose a format.

None of these follows a symbolic link: what is at the other end may be somebody else's.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segxai.errors import SegxaiError, one_line
from segxai.text import size

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # not on Windows, where results can still be read


@contextmanager
def replacing(path: Path, *, copy: bool = True) -> Iterator[Path]:
    """Yield a draft beside the file, which replaces the file if the block ends without an error.

    Parameters
    ----------
    copy : bool
        Whether the draft starts as a copy of the file; otherwise it is empty.

    Raises
    ------
    SegxaiError
        If the draft cannot be written; the file stays as it was.

    Notes
    -----
    The draft gets the permissions of the file, or of the result whose state it is; if there is
    neither, those of the umask.
    """
    draft = _draft(path)
    with failures_of(path):
        try:
            draft.unlink(missing_ok=True)
            _create(draft, like=(path, _result_of(path)))
            if copy:
                shutil.copyfile(path, draft)
            yield draft
            _flush(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _create(draft: Path, *, like: Iterable[Path]) -> None:
    """Create an empty draft, with the permissions of the first of these files that exists."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666)
    try:
        modes = [one.stat().st_mode & 0o777 for one in like if one.is_file()]
        if modes:
            os.fchmod(descriptor, modes[0])
    finally:
        os.close(descriptor)


@contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """Turn a failure to write a file into one line for the user."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        raise SegxaiError(
            f"cannot write {path}: {_reason(error)} ({_room(path.parent)}); what was finished is "
            "kept: fix this, and run the same command again"
        ) from error


def _reason(error: Exception) -> str:
    """Extract the system's own words, which HDF5 wraps in a page of text."""
    quoted = re.search(r"error message = '([^']+)'", str(error))
    if quoted:
        return quoted[1]
    return (isinstance(error, OSError) and error.strerror) or one_line(error)


def _room(folder: Path) -> str:
    try:
        return f"{size(shutil.disk_usage(folder).free)} free"
    except OSError:
        return "its folder is gone"


def resolved(path: Path) -> Path:
    """Return where a symbolic link leads, so that all files lie beside the one that is written.

    Raises
    ------
    SegxaiError
        If it leads back to itself.
    """
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise SegxaiError(f"{path} is a symbolic link that leads nowhere; remove it") from error


def state_file(path: Path) -> Path:
    """Return the path for the state of an unfinished instance, which survives the process."""
    return _beside(path, "unfinished")


def journal_file(path: Path) -> Path:
    """Return the path for maps that are finished, but not in the file yet."""
    return _beside(path, "journal")


def _result_of(state: Path) -> Path:
    """Return the path of the result whose state this is; of another file, the path itself."""
    return state.with_name(re.sub(r"^\.(.+)\.unfinished$", r"\1", state.name))


def _draft(path: Path) -> Path:
    return path.with_name(f".draft-{path.name}")


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Lock the file against other writers during the block; remove what a dead process left.

    The kernel holds the lock, on a file beside it, and releases it when the process ends for any
    reason. A file system without locks gives no protection.

    Raises
    ------
    SegxaiError
        If another process writes the file, its folder cannot be written to, or its lock is a
        symbolic link.
    """
    lock = _beside(path, "lock")
    if lock.is_symlink():
        raise SegxaiError(f"{lock} is a symbolic link, which is not followed: remove it")
    with failures_of(path):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
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
