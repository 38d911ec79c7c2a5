"""The plan counts what the run then does."""

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from segxai.errors import collecting, warn
from segxai.methods.method import Method
from segxai.methods.noise import draw_noise
from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.cotangent import Cotangent
from segxai.rows.sampling import sample_rows
from segxai.run.advice import in_words, quicker
from segxai.run.cost import Plan, plan
from segxai.run.trial import CALL_SECONDS, CopySeconds, is_foreign, timed_by_calls
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window
from segxai.store.size import MAP_BYTES, RUN_BYTES
from segxai.text import duration
from segxai.types import Attribution
from tests.asked import Asked
from tests.networks import block, image_of, small_unet

SHAPE = (40, 36, 14)


@pytest.fixture
def predictor():
    return Predictor(small_unet(), sliding_window(SHAPE, (16, 16, 16)))


def settings_of(aggregator, samples=3):
    return Asked(
        aggregator=aggregator and load_aggregator(aggregator),
        samples=samples,
        noise_levels=(0.1, 0.1),
    )


def asked(settings):
    return settings.options, settings.context


@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
@pytest.mark.parametrize("name", ["gradient", "smoothgrad"])
def test_it_counts_the_backward_passes_that_are_made(predictor, monkeypatch, aggregator, name):
    method, settings, image = load_method(name), settings_of(aggregator), image_of((2, *SHAPE))
    instances = [
        block(SHAPE, (13, 11, 5), (3, 2, 2), label=1),
        sample_rows(block(SHAPE, (1, 1, 1), (3, 3, 3), label=2), 4, seed=0),
    ]
    cost = plan(predictor, image, instances, method, *asked(settings))
    made, grad = [], torch.autograd.grad

    def counted(outputs, inputs, *rest, **more):
        # The cotangents of the score cost nothing: they stay on the logits of the domain.
        if inputs.ndim > 2:
            made.append(len(rest[0].rows) if isinstance(rest[0], Cotangent) else 1)
        return grad(outputs, inputs, *rest, **more)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    for instance in instances:
        method.attribute(
            predictor, image, instance, *replace(settings, engine=cost.engine, batch=cost.batch)
        )
    assert cost.backward_passes == sum(made)
    copies = 3 if method.smooths else 1
    assert cost.rows == copies * (12 + 4)
    assert set(cost.work) == {1, 2}
    assert cost.seconds == sum(cost.work.values()) > 0


@pytest.mark.parametrize(
    ("asked_for", "taken"),
    [("auto", "windowed"), ("windowed", "windowed"), ("dense", "dense"), ("lowrank", "windowed")],
)
def test_a_mean_is_planned_with_an_exact_engine(predictor, asked_for, taken):
    settings = replace(settings_of("mean"), engine=asked_for)
    instances, image = [block(SHAPE, (13, 11, 5), (3, 2, 2))], image_of((2, *SHAPE))
    cost = plan(predictor, image, instances, load_method("gradient"), *asked(settings))
    assert (cost.engine, cost.batch) == (taken, 1)


def test_disk_is_estimated_from_the_support_of_a_row(predictor):
    method, settings, image = (
        load_method("gradient"),
        settings_of("signed_max"),
        image_of((2, *SHAPE)),
    )
    instance = block(SHAPE, (20, 18, 7), (2, 2, 1))
    cost = plan(predictor, image, [instance], method, *asked(settings))
    found = method.attribute(predictor, image, instance, *settings)
    maps = cost.disk_bytes - RUN_BYTES - MAP_BYTES
    assert maps == pytest.approx(0.9 * found.values.nbytes, rel=0.3)


def slow(predictor, image, instance, options, context):
    """A method of a stranger, which makes as many passes as it likes."""
    warn("a doubt")
    CALLS.append((len(instance.row_voxels), options.noise.samples))
    time.sleep(0.02)
    return Attribution(instance.label, np.zeros((2, 1, 1, 1)), (0, 0, 0))


CALLS = []


@pytest.mark.parametrize(("aggregator", "rows"), [("signed_max", 4), (None, 12)])
def test_a_method_of_a_stranger_is_timed_by_one_call_of_itself(predictor, aggregator, rows):
    method = Method("slow", "sleeps", slow, smooths=True)
    assert is_foreign(method)
    assert not is_foreign(load_method("gradient"))
    options, context = asked(settings_of("signed_max", samples=50))
    context = replace(context, aggregator=aggregator and load_aggregator(aggregator))
    instances = [block(SHAPE, (13, 11, 5), (3, 2, 2)), block(SHAPE, (1, 1, 1), (3, 4, 4), label=2)]
    CALLS.clear()
    with collecting() as texts:
        cost = plan(predictor, image_of((2, *SHAPE)), instances, method, options, context)
    assert texts == []  # the run itself says it
    assert [(rows, 1)] == CALLS
    times = {1: 12 / 4, 2: 48 / 4} if aggregator else {1: 1, 2: 1}
    assert cost.work[1] >= 50 * times[1] * 0.02
    assert cost.work[2] / cost.work[1] == pytest.approx(times[2] / times[1])


def test_a_long_call_is_stopped_once_its_speed_is_known(predictor, monkeypatch):
    """It would take 20 s, and does not swallow what stops it."""
    monkeypatch.setattr("segxai.run.trial.MOST_SECONDS", 0.4)
    ends = []

    def in_steps(predictor, image, instance, options, context):
        try:
            for _ in range(200):
                time.sleep(0.1)
                with suppress(Exception):
                    context.tick(1 / 200)
        finally:
            ends.append("tidied up")
        return Attribution(instance.label, np.zeros((2, 1, 1, 1)), (0, 0, 0))

    method, (options, context) = Method("slow", "sleeps", in_steps), asked(settings_of(None))
    instances = [block(SHAPE, (13, 11, 5), (3, 2, 2))]
    started = time.perf_counter()
    cost = plan(predictor, image_of((2, *SHAPE)), instances, method, options, context)
    assert time.perf_counter() - started < 5
    assert 15 < cost.work[1] < 80  # sleeping takes longer on a busy machine
    assert ends == ["tidied up"]


def test_what_a_copy_takes_beside_its_passes_counts(predictor, monkeypatch):
    def drawn_slowly(seed, copy, channel, shape):
        time.sleep(0.05)
        return draw_noise(seed, copy, channel, shape)

    monkeypatch.setattr("segxai.methods.smoothgrad.draw_noise", drawn_slowly)
    method, settings = load_method("smoothgrad"), settings_of("signed_max", samples=3)
    instances = [block(SHAPE, (13, 11, 5), (2, 2, 1), label=label) for label in (1, 2)]
    cost = plan(predictor, image_of((2, *SHAPE)), instances, method, *asked(settings))
    assert min(cost.work.values()) >= 3 * 2 * 0.05


def own(predictor, image, instance, options, context):
    """A method that takes 50 ms, and 10 ms for each row."""
    CALLS.append((len(instance.row_voxels), options.noise.samples))
    time.sleep(0.05 + 0.01 * len(instance.row_voxels))


own.__module__ = "segxai.methods.own"


def tried(predictor, expected, rows=64, sampled=None):
    CALLS.clear()
    instance = replace(block(SHAPE, (1, 1, 1), (4, 4, rows // 16)), sampled=sampled)
    image, options = image_of((2, *SHAPE)), asked(settings_of("signed_max", samples=50))
    method = Method("own", "sleeps", own, smooths=True)
    return timed_by_calls(predictor, image, instance, method, *options, expected)


def test_few_rows_tell_what_each_row_takes(predictor):
    found = tried(predictor, CopySeconds(0.0, CALL_SECONDS / 32))
    assert CALLS == [(32, 1), (16, 1)]
    assert found.row == pytest.approx(0.01, rel=0.5)
    assert found.of(64) == pytest.approx(0.69, rel=0.5)


def test_all_rows_are_tried_if_they_are_quick(predictor):
    found = tried(predictor, CopySeconds(0.0, CALL_SECONDS / 1000), sampled=np.arange(0, 64, 2))
    assert CALLS == [(32, 1)]
    assert found.of(32) >= 0.37


def test_no_trial_takes_long(predictor):
    assert tried(predictor, CopySeconds(3 * CALL_SECONDS, 0.001)) is None
    assert CALLS == []


def test_a_run_of_hours_is_told_what_would_make_it_minutes():
    instances = [block(SHAPE, (1, 1, 1), (10, 10, 10)), block(SHAPE, (1, 1, 1), (5, 5, 8), label=2)]
    method, settings = load_method("smoothgrad"), settings_of("signed_max", samples=50)
    cost = Plan("windowed", 4, {1: 5000.0, 2: 1000.0}, 0, 0, 0, 0)
    told = quicker(cost, instances, method, *asked(settings))
    # 100 of 1000 rows and 100 of 200 rows: 500 s and 500 s; 15 of 50 copies: 1800 s
    for words in ("rows=100", duration(1000), "aggregator=mean", "samples=15", duration(1800)):
        assert words in told
    assert "rows=500" not in told
    mean = quicker(cost, instances, method, *asked(settings_of("mean", samples=50)))
    assert "samples=15" in mean
    assert "rows" not in mean
    short = replace(cost, work={1: 3000.0})
    assert quicker(short, instances, method, *asked(settings)) == ""


def test_memory_grows_with_the_windows_held_at_once(predictor):
    method, image = load_method("gradient"), image_of((2, *SHAPE))
    instances = [block(SHAPE, (13, 11, 5), (2, 2, 2))]
    rows = plan(predictor, image, instances, method, *asked(settings_of("signed_max")))
    mean = plan(predictor, image, instances, method, *asked(settings_of("mean")))
    assert rows.memory_bytes > mean.memory_bytes > 0


def test_it_is_one_line_for_a_person(predictor):
    method, settings = load_method("smoothgrad"), settings_of("signed_max", samples=50)
    instances = [block(SHAPE, (1, 1, 1), (2, 2, 2))]
    words = in_words(plan(predictor, image_of((2, *SHAPE)), instances, method, *asked(settings)))
    assert words.startswith("400 rows in 400 windowed backward passes: about ")
    assert "\n" not in words
    without_rows = in_words(Plan("dense", None, {1: 240.0}, 0, 9, 2_000_000, 3_000_000))
    assert without_rows.startswith("about 4 min, 2.0 MB of memory, 3.0 MB on disk")


def test_nothing_costs_nothing(predictor):
    cost = plan(
        predictor,
        image_of((2, *SHAPE)),
        [],
        load_method("gradient"),
        *asked(settings_of("mean")),
    )
    assert (cost.seconds, cost.rows) == (0, 0)
