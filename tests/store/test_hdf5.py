"""A result file changes as a whole or not at all, by one process at a time, and is read lazily."""

import errno
import fcntl
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.atomic_file import replacing, resolved, sole_writer, state_file
from segxai.store.schema import attribution_of, group
from segxai.types import Attribution, Case, Instance

SHAPE = (6, 5, 4)


def case():
    generator = np.random.default_rng(1)
    return Case(
        name="c",
        image=generator.normal(size=(2, *SHAPE)).astype(np.float32),
        channels=("flair", "mprage"),
        grid=Grid(SHAPE, np.diag([1, 2, 3, 1]) + 0.5 * np.eye(4, k=3)),
        foreground=np.ones(SHAPE, dtype=bool),
    )


def instance(label=1, start=1):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[start : start + 2, 1:3, 1:2] = True
    return Instance.from_mask(mask, label=label, outcome="TP")


def attribution(label=1, *, channels=True, seed=0):
    shape = (2, 4, 3, 2) if channels else (4, 3, 2)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    facts = {"rows": 4, "estimate": False, "domain_voxels": 4}
    return Attribution(label, values, (1, 1, 1), np.abs(values), facts)


def create(path, instances=2):
    found = [instance(label, label) for label in range(1, instances + 1)]
    logits = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype(np.float32)
    hdf5.create(path, case(), Segmentation.of(logits, ("rest", "lesion")), found, {"a": 1})


@pytest.fixture
def path(folder):
    create(Path("r.h5"))
    hdf5.start_run(Path("r.h5"), "run", {"method": "m", "started": "1"})
    return Path("r.h5")


# ------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("channels", [True, False])
def test_what_is_added_is_what_is_read(path, channels):
    stored = attribution(2, channels=channels)
    hdf5.add(path, "run", stored, instance(2, 2), case())
    with hdf5.open_result(path) as tree:
        read = attribution_of(group(tree, "attributions/run/2"))
        domain = group(tree, "attributions/run/2")["domain"].values
    np.testing.assert_array_equal(read.values, stored.values)
    np.testing.assert_array_equal(read.standard_error, stored.standard_error)
    np.testing.assert_array_equal(domain, instance(2, 2).mask(SHAPE)[stored.box.index])
    assert (read.label, read.offset, read.facts) == (2, stored.offset, stored.facts)


def test_a_unit_is_written_in_the_words_of_the_case(path):
    told = {1: "score per input", 2: "score"}
    shown = replace(case(), input_unit="grey value")
    for label, unit in told.items():
        hdf5.add(path, "run", replace(attribution(label), unit=unit), instance(label), shown)
    with hdf5.open_result(path) as tree:
        read = [attribution_of(group(tree, f"attributions/run/{label}")).unit for label in told]
    assert read == ["score per grey value", "score"]


def test_what_a_file_holds_is_listed(path):
    assert hdf5.finished(path, "run") == set()
    assert hdf5.finished(path, "another") == set()
    hdf5.add(path, "run", attribution(2), instance(2, 2), case())
    assert hdf5.finished(path, "run") == {2}
    assert hdf5.instance_labels(path) == {1, 2}
    assert hdf5.read_provenance(path) == {"a": 1}
    assert hdf5.runs(path) == {"run": {"method": "m", "started": "1"}}


def test_summaries_follow_the_labels_whatever_the_order_of_maps(path):
    for label in (2, 1):
        hdf5.add(path, "run", attribution(label, seed=label), instance(label, label), case())
    with hdf5.open_result(path) as tree:
        table = group(tree, "summaries/run").load()
    assert table.label.values.tolist() == [1, 2]
    for label in (1, 2):
        values = attribution(label, seed=label).values
        for channel, name in enumerate(("flair", "mprage")):
            row = table.sel(label=label, channel=name)
            assert float(row.peak) == values[channel].max()
            assert float(row.trough) == values[channel].min()


def test_a_map_with_nan_is_kept_and_shows_in_its_summary(path):
    values = attribution().values.copy()
    values[0, 0, 0, 0] = np.nan
    hdf5.add(path, "run", replace(attribution(), values=values), instance(), case())
    with hdf5.open_result(path) as tree:
        table = group(tree, "summaries/run").load()
    assert np.isnan(table.peak.sel(label=1, channel="flair"))
    assert not np.isnan(table.peak.sel(label=1, channel="mprage"))


def test_a_case_without_instances_can_be_stored(folder):
    create(Path("r.h5"), instances=0)
    assert hdf5.instance_labels(Path("r.h5")) == set()
    with hdf5.open_result("r.h5") as tree:
        assert group(tree, "instances").sizes["label"] == 0


def test_xarray_reads_the_file_lazily(path):
    hdf5.add(path, "run", attribution(), instance(), case())
    with hdf5.open_result(path) as tree:
        for node in tree.subtree:
            for name, variable in node.to_dataset().data_vars.items():
                is_small = variable.size <= 16  # affines are checked when the file is opened
                assert is_small or not variable.variable._in_memory, f"{node.path}/{name}"
        assert float(tree["attributions/run/1/map"][0, 0, 0, 0]) == attribution().values[0, 0, 0, 0]


def test_plain_h5py_reads_parts_of_a_map(path):
    hdf5.add(path, "run", attribution(), instance(), case())
    with h5py.File(path, "r") as file:
        stored = file["attributions/run/1/map"]
        assert stored.chunks is not None
        np.testing.assert_array_equal(stored[1, 2], attribution().values[1, 2])


def test_open_datatree_needs_nothing_of_segxai(path):
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree.children) == {"input", "segmentation", "instances", "attributions"}


# --------------------------------------------------------------------------- whole or not at all


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
    with pytest.raises(SegxaiError, match=r"cannot write nowhere/r\.h5: .*its folder is gone"):
        fail(Path("nowhere/r.h5"), KeyError("not reached"), copy=False)


# ---------------------------------------------------------------------------------- one at a time


def test_there_is_one_writer_at_a_time(path):
    with sole_writer(path):
        with (
            pytest.raises(SegxaiError, match=r"another process is writing r\.h5; wait until"),
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


# ---------------------------------------------------------------------------- links, permissions


def mode(path):
    return Path(path).stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_result_is_created_with_the_permissions_of_the_umask(folder, umask):
    before = os.umask(umask)
    try:
        create(Path("r.h5"))
    finally:
        os.umask(before)
    assert mode("r.h5") == 0o666 & ~umask


def test_a_result_keeps_its_permissions(path):
    path.chmod(0o600)
    hdf5.add(path, "run", attribution(), instance(), case())
    assert mode(path) == 0o600
    with replacing(state_file(path), copy=False) as draft:
        assert mode(draft) == 0o600
    assert mode(state_file(path)) == 0o600
    create(path)
    assert mode(path) == 0o600


@pytest.mark.parametrize("name", [".draft-r.h5", ".r.h5.lock"])
@pytest.mark.parametrize("target", ["secret", "nowhere"])
def test_links_in_the_place_of_our_own_files_are_not_followed(path, name, target):
    Path("secret").write_text("secret")
    Path(name).symlink_to(target)
    if name.endswith("lock"):
        words = r"\.r\.h5\.lock is a symbolic link, which is not followed: remove it"
        with pytest.raises(SegxaiError, match=words), sole_writer(path):
            pass
    hdf5.add(path, "run", attribution(), instance(), case())
    assert Path("secret").read_text() == "secret"
    assert not Path("nowhere").exists()


def test_a_link_is_resolved_first(folder):
    Path("deep").mkdir()
    Path("link.h5").symlink_to("deep/r.h5")
    assert resolved(Path("link.h5")) == folder / "deep" / "r.h5"
    assert resolved(Path("plain.h5")) == Path("plain.h5")
    Path("loop.h5").symlink_to("loop.h5")
    with pytest.raises(SegxaiError, match=r"^loop\.h5 is a symbolic link that leads nowhere"):
        resolved(Path("loop.h5"))
