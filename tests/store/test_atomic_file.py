"""A file changes as a whole or not at all, and by one process at a time."""

import errno
import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from segxai.errors import SegxaiError
from segxai.store.atomic_file import replacing, resolved, sole_writer


@pytest.fixture
def path(folder):
    Path("r.h5").write_bytes(b"whole")
    return Path("r.h5")


# ------------------------------------------------------------------------------ whole or not at all


def fail(path, error, **options):
    """A change that is cut off in its middle."""
    with replacing(path, **options) as draft:
        draft.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError])
def test_a_failing_change_leaves_the_file_as_it_was(path, error):
    before = path.read_bytes()
    words = r"^cannot write r\.h5: .* free\); what was finished is kept: fix this"
    with pytest.raises(SegxaiError, match=words):
        fail(path, error)
    assert path.read_bytes() == before
    assert os.listdir() == ["r.h5"]


def test_a_bug_in_a_change_stays_a_bug(path):
    before = path.read_bytes()
    with pytest.raises(KeyError, match="bug"):
        fail(path, KeyError("bug"))
    assert path.read_bytes() == before
    assert os.listdir() == ["r.h5"]


def test_a_draft_starts_as_a_copy(path):
    before = path.read_bytes()
    with replacing(path) as draft:
        assert draft.read_bytes() == before
        draft.write_bytes(b"new")
        assert path.read_bytes() == before
    assert path.read_bytes() == b"new"


def test_the_words_of_hdf5_are_cut_down_to_the_reason(path):
    page = "[Errno 28] Can't write data (file write failed\n, error message = 'No space', buf = 1"
    with pytest.raises(SegxaiError, match=r"^cannot write r\.h5: No space \("):
        fail(path, OSError(page))


def test_a_folder_that_is_gone_is_one_line(path):
    with pytest.raises(SegxaiError, match=r"cannot write nowhere/r\.h5"):
        fail(Path("nowhere/r.h5"), KeyError("not reached"), copy=False)


# ------------------------------------------------------------------------------------ one at a time


def test_there_is_one_writer_at_a_time(path):
    with sole_writer(path):
        with (
            pytest.raises(SegxaiError, match=r"another process is writing r\.h5"),
            sole_writer(path),
        ):
            pass
        with sole_writer(Path("other.h5")):
            pass
    with sole_writer(path):
        pass
    assert os.listdir() == ["r.h5"]


def test_a_lock_ends_with_an_error(path):
    with pytest.raises(KeyError, match="bug"), sole_writer(path):
        raise KeyError("bug")
    with sole_writer(path):
        pass


def hold(path, held):
    with sole_writer(path):
        held.set()
        time.sleep(600)


def test_a_lock_ends_with_the_process_that_holds_it(path):
    forks = multiprocessing.get_context("forkserver")
    held = forks.Event()
    holder = forks.Process(target=hold, args=(path.absolute(), held), daemon=True)
    holder.start()
    assert held.wait(120)
    with pytest.raises(SegxaiError, match="another process is writing"), sole_writer(path):
        pass
    holder.kill()
    holder.join()
    assert Path(".r.h5.lock").exists()
    with sole_writer(path):
        pass
    assert os.listdir() == ["r.h5"]


def test_a_lock_that_was_removed_meanwhile_is_not_ours(path, monkeypatch):
    take = fcntl.flock

    def late(descriptor, how):
        Path(".r.h5.lock").unlink()
        take(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(SegxaiError, match="another process is writing"), sole_writer(path):
        pass


def test_a_file_system_without_locks_is_written_all_the_same(path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(path):
        Path(".draft-r.h5").touch()
    assert ".r.h5.lock" not in os.listdir()


def test_a_writer_removes_the_draft_of_a_dead_one(path):
    Path(".draft-r.h5").write_bytes(b"half")
    Path(".draft-.r.h5.unfinished").write_bytes(b"half")
    Path(".r.h5.unfinished").write_bytes(b"whole")  # the instance in work: it may go on
    with sole_writer(path):
        assert sorted(os.listdir()) == [".r.h5.lock", ".r.h5.unfinished", "r.h5"]


def test_a_link_is_resolved_first(folder):
    Path("deep").mkdir()
    Path("link.h5").symlink_to("deep/r.h5")
    assert resolved(Path("link.h5")) == folder / "deep" / "r.h5"
    assert resolved(Path("plain.h5")) == Path("plain.h5")
    Path("loop.h5").symlink_to("loop.h5")
    with pytest.raises(SegxaiError, match=r"^loop\.h5 is a symbolic link"):
        resolved(Path("loop.h5"))
