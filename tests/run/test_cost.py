"""The plan counts what the run then does."""

from dataclasses import replace

import pytest
import torch

from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.cotangent import Cotangent
from segxai.rows.sampling import sample_rows
from segxai.run.cost import in_words, plan
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window
from tests.asked import Asked
from tests.networks import block, image_of, small_unet

SHAPE = (40, 36, 14)


@pytest.fixture
def predictor():
    return Predictor(small_unet(), sliding_window(SHAPE, (16, 16, 16)))


def settings_of(aggregator, samples=3):
    return Asked(aggregator=load_aggregator(aggregator), samples=samples, noise_levels=(0.1, 0.1))


def noise_and_context(settings):
    return settings.options.noise, settings.context


@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
@pytest.mark.parametrize("name", ["gradient", "smoothgrad"])
def test_it_counts_the_backward_passes_that_are_made(predictor, monkeypatch, aggregator, name):
    method, settings, image = load_method(name), settings_of(aggregator), image_of((2, *SHAPE))
    instances = [
        block(SHAPE, (13, 11, 5), (3, 2, 2), label=1),
        sample_rows(block(SHAPE, (1, 1, 1), (3, 3, 3), label=2), 4, seed=0),
    ]
    cost = plan(predictor, image, instances, method, *noise_and_context(settings))
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


def test_disk_is_estimated_from_the_support_of_a_row(predictor):
    method, settings, image = (
        load_method("gradient"),
        settings_of("signed_max"),
        image_of((2, *SHAPE)),
    )
    instance = block(SHAPE, (20, 18, 7), (2, 2, 1))
    cost = plan(predictor, image, [instance], method, *noise_and_context(settings))
    found = method.attribute(predictor, image, instance, *settings)
    assert 0.5 < cost.disk_bytes / (2 * found.values.nbytes) < 4


def test_memory_grows_with_the_windows_held_at_once(predictor):
    method, image = load_method("gradient"), image_of((2, *SHAPE))
    instances = [block(SHAPE, (13, 11, 5), (2, 2, 2))]
    rows = plan(predictor, image, instances, method, *noise_and_context(settings_of("signed_max")))
    mean = plan(predictor, image, instances, method, *noise_and_context(settings_of("mean")))
    assert rows.memory_bytes > mean.memory_bytes > 0


def test_it_is_one_line_for_a_person(predictor):
    method, settings = load_method("smoothgrad"), settings_of("signed_max", samples=50)
    instances = [block(SHAPE, (1, 1, 1), (2, 2, 2))]
    words = in_words(
        plan(predictor, image_of((2, *SHAPE)), instances, method, *noise_and_context(settings))
    )
    assert words.startswith("400 rows in 400 windowed backward passes: about ")
    assert "\n" not in words


def test_nothing_costs_nothing(predictor):
    cost = plan(
        predictor,
        image_of((2, *SHAPE)),
        [],
        load_method("gradient"),
        *noise_and_context(settings_of("mean")),
    )
    assert (cost.seconds, cost.rows) == (0, 0)
