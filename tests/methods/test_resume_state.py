"""An instance in work goes on where it was kept, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segxai.methods.gradient import InstanceGradient, gradient
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
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window
from tests.asked import Asked
from tests.networks import Counting, block, image_of, instance_norm_network, small_unet

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


@pytest.mark.parametrize("method", [smoothgrad, gradient])
def test_what_is_measured_of_rows_is_that_of_the_whole(method):
    """The rank, the error and the open signs, whichever part of the run had the largest."""
    network = instance_norm_network()
    predictor = Predictor(network, sliding_window((14, 12), (10, 12), 0.5))
    image, instance = image_of((2, 14, 12)), block((14, 12), (4, 3), (6, 5))
    settings = settings_of(engine="lowrank", batch=10, samples=2, row_tolerance=0.1)
    unbroken = Fragile(-1)
    wanted = method(predictor, image, instance, *replace(settings, bookmark=unbroken))
    assert wanted.facts["rank"] > 0
    assert wanted.facts["row_error"] > 1e-3
    assert wanted.facts["open_signs"] > 0
    deviation = wanted.facts.pop("score_deviation", 0)
    for lives in range(1, -unbroken.lives):
        bookmark = Fragile(lives)
        broken = replace(settings, bookmark=bookmark)
        with pytest.raises(KilledError):
            method(predictor, image, instance, *broken)
        found = method(predictor, image, instance, *replace(settings, bookmark=bookmark))
        # Logits of a copy that was begun are computed anew, which moves their last digits.
        assert found.facts.pop("score_deviation", 0) == pytest.approx(deviation, rel=1e-4)
        assert found.facts == wanted.facts
        np.testing.assert_array_equal(found.values, wanted.values)


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
        passes = 2 * (4 - done[0]) * windows  # of each copy: with a graph for rows, and the score's
        assert predictor.network.passes - before <= passes
        assert -1 - again.lives == batches + 4 - lives
    assert rows_made[0] != rows_made[1]


def test_a_batch_of_images_keeps_no_rows(predictor):
    bookmark = Fragile(1)
    method = InstanceGradient(predictor, batch=3, bookmark=bookmark)
    instance = block(SHAPE, (8, 8, 3), (2, 2, 1))
    method.attribute(torch.cat([image_of((2, *SHAPE), n) for n in (0, 1)]), instance=instance)
    assert bookmark.kept == {}


# ------------------------------------------------------------------------------- its parts


def test_an_inner_state_is_loaded_once_and_kept_with_the_outer():
    memory = Fragile(-1)
    inside = NestedState(memory, lambda: {"outer": torch.tensor(7)})
    inside.keep(lambda: STATE)
    assert set(memory.kept) == {"outer", "inside.a", "inside.n"}
    inside.keep(dict)
    assert "inside.a" in memory.kept
    later = NestedState(memory, dict)
    torch.testing.assert_close(later.load(), STATE, rtol=0, atol=0)
    assert later.load() == {}  # a later computation inside was never interrupted


def test_a_state_beside_another_is_kept_with_it():
    memory = Fragile(-1)
    both = WithExtraState(memory, lambda: {"more": torch.tensor(1)})
    both.keep(lambda: STATE)
    wanted = STATE | {"more": torch.tensor(1)}
    torch.testing.assert_close(both.load(), wanted, rtol=0, atol=0)
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
