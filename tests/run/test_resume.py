"""An instance in work is kept in a file of its own, now and then, and belongs to one task."""

import errno
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segxai.run import resume
from segxai.run.resume import FileBookmark, Meter, owner_of
from tests.networks import block

STATE = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


# ---------------------------------------------------------------------------------------- in a file


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(resume, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(resume, "SHARE_FOR_KEEPING", float("inf"))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_what_is_kept_is_what_is_loaded(folder, eager):
    first = FileBookmark(Path("state"), "me")
    assert first.load() == {}
    first.meter.count(0.25)
    view = STATE["a"].T  # not contiguous, and shares its memory
    first.keep(lambda: STATE | {"view": view})
    second = FileBookmark(Path("state"), "me")
    assert same(second.load(), STATE | {"view": view})
    assert second.meter.done == 0.25
    assert second.seconds >= 0
    assert [path.name for path in Path().iterdir()] == ["state"]


def test_types_are_kept(folder, eager):
    state = {
        name: torch.arange(3).to(getattr(torch, name)) for name in ("float64", "bfloat16", "int64")
    }
    FileBookmark(Path("state"), "me").keep(lambda: state)
    loaded = FileBookmark(Path("state"), "me").load()
    assert {name: one.dtype for name, one in loaded.items()} == {
        name: one.dtype for name, one in state.items()
    }


def test_the_state_of_another_owner_is_not_touched(folder, eager):
    FileBookmark(Path("state"), "me").keep(lambda: STATE)
    other = FileBookmark(Path("state"), "somebody else")
    assert other.load() == {}
    assert (other.meter.done, other.seconds) == (0, 0)
    other.remove()
    assert same(FileBookmark(Path("state"), "me").load(), STATE)
    FileBookmark(Path("state"), "me").remove()
    assert not Path("state").exists()


@pytest.mark.parametrize("content", [b"", b"no tensors at all", bytes(100)])
def test_a_file_that_is_no_state_is_ignored_and_replaced(folder, eager, content):
    Path("state").write_bytes(content)
    bookmark = FileBookmark(Path("state"), "me")
    assert bookmark.load() == {}
    bookmark.keep(lambda: STATE)
    assert same(FileBookmark(Path("state"), "me").load(), STATE)


def test_half_a_file_is_ignored(folder, eager):
    FileBookmark(Path("state"), "me").keep(lambda: STATE)
    whole = Path("state").read_bytes()
    for size in (4, len(whole) // 2, len(whole) - 1):
        Path("state").write_bytes(whole[:size])
        assert FileBookmark(Path("state"), "me").load() == {}


def test_a_flipped_bit_anywhere_starts_the_instance_again(folder, eager):
    first = FileBookmark(Path("state"), "me")
    first.meter.count(0.25)
    first.keep(lambda: STATE | {"flag": torch.tensor([True]), "half": torch.ones(2).bfloat16()})
    whole = Path("state").read_bytes()
    said = 0
    for place in range(8, len(whole)):
        Path("state").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            again = FileBookmark(Path("state"), "me")
            assert again.load() == {}, place
        assert (again.meter.done, again.seconds) == (0, 0)
        said += any("state is damaged: the instance" in str(one.message) for one in shown)
    assert said > 50  # the others are in the header, which cannot be read then
    Path("state").write_bytes(whole)
    assert FileBookmark(Path("state"), "me").meter.done == 0.25


def test_a_state_is_kept_now_and_then_only(folder, monkeypatch):
    now, gathered = [0.0], []

    def gather():
        gathered.append(now[0])
        now[0] += 4.0 if len(gathered) == 2 else 0.0  # the second one takes long to write
        return STATE

    monkeypatch.setattr(resume, "monotonic", lambda: now[0])
    bookmark = FileBookmark(Path("state"), "me")
    while now[0] < 300:
        bookmark.keep(gather)
        now[0] += 1.0
    assert gathered[:2] == [30.0, 60.0]
    assert gathered[2] == 64.0 + 4.0 / 0.05
    assert gathered[3] == gathered[2] + 30.0


def test_an_instance_that_takes_no_time_is_never_kept(folder):
    bookmark = FileBookmark(Path("state"), "me")
    bookmark.keep(pytest.fail)
    assert not Path("state").exists()


def test_an_empty_state_is_not_kept(folder, eager):
    bookmark = FileBookmark(Path("state"), "me")
    bookmark.keep(lambda: STATE)
    bookmark.keep(dict)
    assert same(bookmark.load(), STATE)


def test_a_full_disk_costs_a_warning_and_the_old_state_stays(folder, eager, monkeypatch):
    bookmark = FileBookmark(Path("state"), "me")
    bookmark.keep(lambda: STATE)

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.warns(UserWarning, match=r"cannot be kept \(.*No space left"):
            bookmark.keep(lambda: {"a": torch.ones(1)})
        bookmark.keep(pytest.fail)  # it is not tried again
    assert same(FileBookmark(Path("state"), "me").load(), STATE)
    assert [path.name for path in Path().iterdir()] == ["state"]


def test_a_folder_that_cannot_be_written_to_costs_a_warning(folder, eager):
    with pytest.warns(UserWarning, match="cannot be kept"):
        FileBookmark(Path("nowhere/state"), "me").keep(lambda: STATE)


# --------------------------------------------------------------------------------- whose a state is


def test_every_difference_is_another_owner(monkeypatch):
    case = {"created": "today", "weights": "a"}
    monkeypatch.setattr("segxai.store.hdf5.read_provenance", lambda path: case)
    instance = block((6, 5, 4), (1, 1, 1), (3, 2, 2), label=2)
    run = {
        "seed": 0, "samples": 50, "labels": "all", "started": "1",
        "compute": {"device": "cpu", "engine": "auto", "batch": 16},
    }  # fmt: skip
    known = {"runs": ["r"], "provenance": [run], "instance": instance, "engine": "dense"}

    def owner(**more):
        return owner_of(Path("r.h5"), **known | more)

    wanted = owner()
    others = [
        owner(runs=["s"]),
        owner(runs=["r", "s"], provenance=[run, run | {"score": "margin"}]),
        owner(engine="windowed"),
        *(owner(provenance=[run | {name: "x"}]) for name in ("seed", "samples")),
        *(
            owner(provenance=[run | {"compute": run["compute"] | {name: "x"}}])
            for name in ("device", "engine", "batch")
        ),
        owner(instance=replace(instance, label=3)),
        owner(instance=replace(instance, class_index=0)),
        owner(instance=replace(instance, voxels=instance.voxels + 1)),
        owner(instance=replace(instance, voxels=instance.voxels[::-1])),
        owner(instance=replace(instance, sampled=np.array([0, 3]))),
        owner(instance=replace(instance, sampled=np.array([3, 0]))),
        owner(instance=replace(instance, sampled=np.array([0, 3]), voxels=instance.voxels[:-1])),
    ]
    # Asked for more instances, or at another time: the same maps.
    assert owner(provenance=[run | {"labels": [2], "started": "2"}]) == wanted
    case["created"] = "tomorrow"
    others.append(owner())
    assert len({wanted, *others}) == 1 + len(others)


# --------------------------------------------------------------------------------- how much is done


def test_a_meter_counts_nothing_twice_and_everything_once():
    meter = Meter(done=0.5)
    assert [meter.count(share) for share in (0.25, 0.25, 0.25)] == [0, 0, 0.25]
    assert meter.done == 0.75
    assert meter.complete() == 0.25
    assert (meter.count(0.5), meter.complete(), meter.done) == (0, 0, 1)
