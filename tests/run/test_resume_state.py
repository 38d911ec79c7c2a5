"""An instance in work goes on where it was kept, to the last bit, and nothing else does."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segxai.methods.gradient import gradient
from segxai.methods.resume_state import (
    NestedState,
    NoBookmark,
    WithExtraState,
    state_from_tensors,
    state_to_tensors,
)
from segxai.methods.sampling_error import SideBySide
from segxai.methods.smoothgrad import smoothgrad
from segxai.plugins.registry import load_aggregator
from segxai.rows.batch import RowBatch
from segxai.rows.sampling import sample_rows
from segxai.run import resume
from segxai.run.resume import FileBookmark, Meter, owner_of
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window
from tests.asked import Asked
from tests.networks import block, image_of, small_unet

SHAPE = (20, 16, 8)
STATE = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


# ------------------------------------------------------------------------- to the last bit


class KilledError(Exception):
    """As kill -9, but for the test that goes on."""


class Fragile:
    """Keeps every state in memory; the process dies when it has kept so many."""

    def __init__(self, lives):
        self.lives, self.kept = lives, {}

    def load(self):
        return self.kept

    def keep(self, gather):
        state = gather()
        if state:
            self.kept = {name: one.clone() for name, one in state.items()}
            self.lives -= 1
            if self.lives == 0:
                raise KilledError


class Counting(nn.Module):
    """Counts the forward passes of a network."""

    def __init__(self, network):
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, image):
        self.passes += 1
        return self.network(image)


class Opaque:
    """A stranger's aggregator, with a state that nobody else understands."""

    name, linear = "opaque", False

    def start(self, template):
        return [torch.zeros_like(template)]

    def add(self, state, batch):
        state[0][batch.box.index] += batch.values.sum(dim=0)
        return state

    def finish(self, state):
        return state[0]


@pytest.fixture(scope="module")
def predictor():
    return Predictor(Counting(small_unet()), sliding_window(SHAPE, (16, 16, 8)))


def settings_of(**more):
    basic = {
        "aggregator": load_aggregator("signed_max"),
        "samples": 2,
        "noise_levels": (0.1, 0.2),
        "engine": "windowed",
        "batch": 5,
    }
    return Asked(**basic | more)


HOWS = {
    "windowed": (smoothgrad, {}, None),
    "dense": (smoothgrad, {"engine": "dense"}, None),
    "mean": (smoothgrad, {"aggregator": load_aggregator("mean"), "samples": 4}, None),
    "opaque": (smoothgrad, {"aggregator": Opaque(), "samples": 3}, None),
    "pairs": (smoothgrad, {"antithetic": True, "samples": 4}, None),
    "auto": (smoothgrad, {"samples": "auto", "tolerance": 0.1, "batch": 12}, None),
    "estimate": (smoothgrad, {"samples": 3, "batch": 3}, 8),
    "gradient": (gradient, {"batch": 2}, None),
    "gradient estimate": (gradient, {"batch": 2}, 8),
}


@pytest.mark.parametrize(("method", "more", "rows"), HOWS.values(), ids=HOWS)
def test_whenever_it_is_killed_it_goes_on_to_the_same_bits(predictor, method, more, rows):
    image, instance = image_of((2, *SHAPE)), block(SHAPE, (8, 8, 3), (3, 2, 2))
    if rows:
        instance = sample_rows(instance, rows, seed=0)
    settings, unbroken = settings_of(**more), Fragile(-1)
    wanted = method(predictor, image, instance, *replace(settings, bookmark=unbroken))
    count = -1 - unbroken.lives
    assert count >= 3
    for lives in np.unique(np.linspace(1, count, 6).astype(int)):
        ticks, bookmark = [], Fragile(lives)
        broken = replace(settings, bookmark=bookmark)
        with pytest.raises(KilledError):
            method(predictor, image, instance, *broken)
        last = replace(settings, bookmark=bookmark, tick=ticks.append)
        found = method(predictor, image, instance, *last)
        np.testing.assert_array_equal(found.values, wanted.values)
        if wanted.standard_error is not None:
            np.testing.assert_array_equal(found.standard_error, wanted.standard_error)
        assert (found.facts, found.offset) == (wanted.facts, wanted.offset)
        assert sum(ticks) < 1 + 1e-9
        if lives < count and more.get("samples") != "auto":
            assert sum(ticks) == pytest.approx(1)


def test_what_was_done_is_not_done_again(predictor):
    image, instance = image_of((2, *SHAPE)), block(SHAPE, (8, 8, 3), (3, 2, 2))
    settings, unbroken = settings_of(samples=4), Fragile(-1)
    smoothgrad(predictor, image, instance, *replace(settings, bookmark=unbroken))
    batches = -1 - unbroken.lives - 4  # one more for each copy
    rows_made = []
    for lives in (3, 7):
        bookmark = Fragile(lives)
        with pytest.raises(KilledError):
            smoothgrad(predictor, image, instance, *replace(settings, bookmark=bookmark))
        done = int(bookmark.kept["copies"]), int(bookmark.kept.get("inside.rows", 0))
        again = Fragile(-1)
        again.kept, before = bookmark.kept, predictor.network.passes
        smoothgrad(predictor, image, instance, *replace(settings, bookmark=again))
        rows_made.append(done)
        windows = len(predictor.crop_to(instance.row_voxels)[0].layout.windows)
        assert predictor.network.passes - before <= (4 - done[0]) * windows
        assert -1 - again.lives == batches + 4 - lives
    assert rows_made[0] != rows_made[1]


def test_a_batch_of_images_keeps_no_rows(predictor):
    from segxai.methods.gradient import InstanceGradient

    bookmark = Fragile(1)
    method = InstanceGradient(predictor, batch=3, bookmark=bookmark)
    instance = block(SHAPE, (8, 8, 3), (2, 2, 1))
    method.attribute(torch.cat([image_of((2, *SHAPE), n) for n in (0, 1)]), instance=instance)
    assert bookmark.kept == {}


# ---------------------------------------------------------------------------------- in a file


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
        with pytest.warns(UserWarning, match=r"cannot be kept \(.*No space left.*starts again"):
            bookmark.keep(lambda: {"a": torch.ones(1)})
        bookmark.keep(pytest.fail)  # it is not tried again
    assert same(FileBookmark(Path("state"), "me").load(), STATE)
    assert [path.name for path in Path().iterdir()] == ["state"]


def test_a_folder_that_cannot_be_written_to_costs_a_warning(folder, eager):
    with pytest.warns(UserWarning, match="cannot be kept"):
        FileBookmark(Path("nowhere/state"), "me").keep(lambda: STATE)


# --------------------------------------------------------------------------- whose a state is


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


# ------------------------------------------------------------------------------- its parts


def test_a_meter_counts_nothing_twice_and_everything_once():
    meter = Meter(done=0.5)
    assert [meter.count(share) for share in (0.25, 0.25, 0.25)] == [0, 0, 0.25]
    assert meter.done == 0.75
    assert meter.complete() == 0.25
    assert (meter.count(0.5), meter.complete(), meter.done) == (0, 0, 1)


def test_an_inner_state_is_loaded_once_and_kept_with_the_outer():
    memory = Fragile(-1)
    inside = NestedState(memory, lambda: {"outer": torch.tensor(7)})
    inside.keep(lambda: STATE)
    assert set(memory.kept) == {"outer", "inside.a", "inside.n"}
    inside.keep(dict)
    assert "inside.a" in memory.kept
    later = NestedState(memory, dict)
    assert same(later.load(), STATE)
    assert later.load() == {}  # a later computation inside was never interrupted


def test_a_state_beside_another_is_kept_with_it():
    memory = Fragile(-1)
    both = WithExtraState(memory, lambda: {"more": torch.tensor(1)})
    both.keep(lambda: STATE)
    assert same(both.load(), STATE | {"more": torch.tensor(1)})
    both.keep(dict)
    assert set(memory.kept) == {"a", "n", "more"}


def test_no_bookmark_keeps_nothing():
    nothing = NoBookmark()
    nothing.keep(pytest.fail)
    assert nothing.load() == {}


@pytest.mark.parametrize("name", ["signed_max", "mean", "side by side"])
def test_the_states_of_our_aggregators_come_back_as_they_were(name):
    aggregator = (
        SideBySide(load_aggregator("signed_max"), lambda maps: None)
        if name == "side by side"
        else load_aggregator(name)
    )
    template = torch.zeros(2, 5, 4)
    batch = RowBatch(torch.randn(3, 2, 3, 2, generator=torch.Generator().manual_seed(0)), (1, 1))
    state = aggregator.add(aggregator.start(template), batch)
    back = state_from_tensors(aggregator.start(template), state_to_tensors(state))
    assert type(back) is type(state)
    assert torch.equal(aggregator.finish(back), aggregator.finish(state))
    again, more = aggregator.add(back, batch), aggregator.add(state, batch)
    assert torch.equal(aggregator.finish(again), aggregator.finish(more))


def test_numbers_and_containers_come_back_as_they_were():
    state = {"a": (1, 2.5, None, True), "b": {"c": torch.ones(2)}, "none": {}}
    fresh = {"a": (0, 0.0, None, False), "b": {"c": torch.zeros(2)}, "none": {}}
    back = state_from_tensors(fresh, state_to_tensors(state))
    assert back["a"] == state["a"]
    assert [type(one) for one in back["a"]] == [int, float, type(None), bool]
    assert torch.equal(back["b"]["c"], torch.ones(2))


@pytest.mark.parametrize("state", [[torch.ones(1)], {1: 2}, object(), ("word",), {"a": {3}}])
def test_other_states_cannot_be_kept(state):
    assert state_to_tensors(state) is None
