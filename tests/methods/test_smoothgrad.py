"""SmoothGrad: the literal formula with the same noise, whatever the batches and windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segxai.methods.gradient import InstanceGradient
from segxai.methods.noise import draw_noise
from segxai.methods.smoothgrad import segxai_method, smoothgrad, smoothgrads_together
from segxai.methods.together import Together
from segxai.plugins.registry import load_aggregator
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of, paper_unet, small_unet

TOLERANCE = 1e-5
LEVELS = (0.3, 0.1)
COPIES, SEED = 3, 11

CASES = {
    "paper": (paper_unet, (2, 32, 32, 32), None, (16, 12, 15), (2, 2, 2)),
    "windows": (small_unet, (2, 40, 36, 14), (16, 16, 16), (13, 11, 5), (2, 3, 2)),
    "2d": (lambda: literal.seeded(literal.Net2d(channels=2)), (2, 24, 20), None, (9, 8), (4, 3)),
}


@pytest.fixture(params=CASES, scope="module")
def setting(request):
    network, shape, window, start, size = CASES[request.param]
    grid = shape[1:]
    layout = whole_image(grid) if window is None else sliding_window(grid, window)
    predictor = Predictor(network(), layout)
    image, instance = image_of(shape), block(grid, start, size)
    noisy = [
        image
        + torch.stack(
            [s * torch.from_numpy(draw_noise(SEED, n, c, grid)) for c, s in enumerate(LEVELS)]
        )
        for n in range(COPIES)
    ]
    return predictor, image, instance, [literal.rows(predictor, x, instance.voxels) for x in noisy]


def settings_with(aggregator, **more):
    return Asked(
        aggregator=load_aggregator(aggregator),
        samples=COPIES,
        noise_levels=LEVELS,
        seed=SEED,
        **more,
    )


def test_mean_is_equation_2(setting):
    predictor, image, instance, rows = setting
    wanted = sum(literal.mean(found) for found in rows) / COPIES
    found = smoothgrad(predictor, image, instance, *settings_with("mean"))
    assert literal.worst(found.on_grid(image.shape[2:]), wanted) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 5])
def test_signed_max_is_equation_3(setting, batch):
    predictor, image, instance, rows = setting
    wanted = sum(literal.signed_max(found) for found in rows) / COPIES
    free = torch.stack([literal.ties(found) for found in rows]).any(dim=0)
    assert free.float().mean() < 0.001
    found = smoothgrad(predictor, image, instance, *settings_with("signed_max", batch=batch))
    assert literal.worst(found.on_grid(image.shape[2:]) * ~free.numpy(), wanted * ~free) < TOLERANCE


def test_the_standard_error_is_that_of_the_mean_over_copies(setting):
    predictor, image, instance, rows = setting
    copies = torch.stack([literal.signed_max(found) for found in rows]).double()
    wanted = copies.std(dim=0, unbiased=True) / COPIES**0.5
    known = ~torch.stack([literal.ties(found) for found in rows]).any(dim=0).numpy()
    found = smoothgrad(predictor, image, instance, *settings_with("signed_max"))
    assert found.standard_error is not None
    error = replace(found, values=found.standard_error).on_grid(image.shape[2:])
    peak = float(copies.abs().max())
    assert np.abs(error - wanted.numpy())[known].max() < 3e-5 * peak


def test_equation_2_divides_by_the_domain_and_not_by_the_number_of_instances(setting):
    """Another instance in the case changes nothing; a larger domain is its own average."""
    predictor, image, instance, _ = setting
    again = smoothgrad(predictor, image, replace(instance, label=9), *settings_with("mean"))
    first = smoothgrad(predictor, image, instance, *settings_with("mean"))
    np.testing.assert_array_equal(again.values, first.values)


@pytest.mark.parametrize("samples", [1, 3, 8])
def test_of_a_linear_model_it_is_the_gradient_whatever_the_copies(samples):
    model = literal.seeded(nn.Conv2d(2, 2, 5, padding=2))
    image, instance = image_of((2, 20, 18)), block((20, 18), (9, 8), (2, 3))
    plain = InstanceGradient(model).attribute(image, instance=instance)[0]
    settings = replace(settings_with("signed_max"), samples=samples)
    predictor = Predictor(model, whole_image((20, 18)))
    found = smoothgrad(predictor, image, instance, *settings)
    assert literal.worst(found.on_grid((20, 18)), plain) < 1e-6
    if samples == 1:
        assert found.standard_error is None
    else:
        assert np.abs(found.standard_error).max() < 1e-6 * float(plain.abs().max())


def test_the_baseline_is_the_same_function_on_the_whole_class():
    instance_level, class_level = segxai_method("smoothgrad"), segxai_method("class_smoothgrad")
    assert instance_level.attribute is class_level.attribute
    assert (instance_level.scope, class_level.scope) == ("instance", "class")
    assert (instance_level.aggregator, class_level.aggregator) == ("signed_max", "mean")


@pytest.mark.parametrize("samples", [1, 2])
def test_two_copies_are_the_fewest_with_a_standard_error(samples):
    image, instance = image_of((2, 12, 10)), block((12, 10), (4, 3), (2, 2))
    asked = Asked(load_aggregator("mean"), samples=samples, noise_levels=(0.3, 0.2))
    predictor = Predictor(literal.seeded(nn.Conv2d(2, 2, 3, padding=1)), whole_image((12, 10)))
    single = smoothgrad(predictor, image, instance, *asked)
    together = Together(((asked.aggregator, "logit"),), "logit")
    (joined,) = smoothgrads_together(predictor, image, instance, together, *asked)
    assert (single.standard_error is not None) == (samples > 1)
    assert (joined.standard_error is not None) == (samples > 1)
