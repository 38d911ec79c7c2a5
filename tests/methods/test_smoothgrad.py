"""SmoothGrad: the literal formula with the same noise, whatever the batches, crops and order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from scipy import stats
from torch import nn

from segxai.errors import SegxaiError
from segxai.methods.gradient import InstanceGradient
from segxai.methods.noise import noise_levels
from segxai.methods.smoothgrad import SeededNoiseTunnel, draw_noise, segxai_method, smoothgrad
from segxai.plugins.registry import load_aggregator
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of, net2d, paper_unet, small_unet

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
    found = smoothgrad(predictor, image, instance, *settings_with("signed_max"))
    assert found.standard_error is not None
    error = replace(found, values=found.standard_error).on_grid(image.shape[2:])
    peak = float(copies.abs().max())
    assert np.abs(error - wanted.numpy()).max() < 3e-5 * peak


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


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_tunnel_does_not_depend_on_its_batches(batch):
    model, image = net2d(), image_of((3, 24, 20))
    instance = block((24, 20), (9, 8), (3, 2))
    tunnel = SeededNoiseTunnel(InstanceGradient(model), seed=4)
    parts, levels = image.split(1, dim=1), (0.1, 0.2, 0.3)
    wanted = tunnel.attribute(parts, nt_samples=5, stdevs=levels, instance=instance)
    wanted_error = tunnel.standard_error
    found = tunnel.attribute(
        parts, nt_samples=5, nt_samples_batch_size=batch, stdevs=levels, instance=instance
    )
    for one, other in zip([*found, *tunnel.standard_error], [*wanted, *wanted_error], strict=True):
        assert literal.worst(one, other) < TOLERANCE


def test_the_images_of_a_batch_do_not_mix():
    model, images = net2d(), [image_of((3, 24, 20), seed) for seed in (0, 1)]
    tunnel = SeededNoiseTunnel(InstanceGradient(model, "mean"), seed=4)
    options = {"nt_samples": 4, "stdevs": 0.2, "instance": block((24, 20), (9, 8), (2, 2))}
    alone = torch.cat([tunnel.attribute(image, **options) for image in images])
    together = tunnel.attribute(torch.cat(images), nt_samples_batch_size=2, **options)
    assert literal.worst(together, alone) < TOLERANCE


def test_it_equals_captums_tunnel_fed_the_same_noise(monkeypatch):
    model, image = net2d(), image_of((3, 24, 20))
    instance, levels = block((24, 20), (9, 8), (3, 2)), (0.1, 0.2, 0.3)
    parts, copies = image.split(1, dim=1), iter(range(100))

    def same_noise(self, count, inputs, stdevs):
        assert count == 1
        n = next(copies)
        return tuple(
            part + s * torch.from_numpy(draw_noise(4, n, c, (24, 20)))
            for c, (part, s) in enumerate(zip(inputs, stdevs, strict=True))
        )

    ours = SeededNoiseTunnel(InstanceGradient(model), seed=4).attribute(
        parts, nt_samples=6, stdevs=levels, instance=instance
    )
    monkeypatch.setattr(NoiseTunnel, "_add_noise_to_inputs", same_noise)
    theirs = NoiseTunnel(InstanceGradient(model)).attribute(
        parts, nt_samples=6, nt_samples_batch_size=1, stdevs=levels, instance=instance
    )
    for one, other in zip(ours, theirs, strict=True):
        assert literal.worst(one, other) < TOLERANCE


def test_captums_other_statistics_still_work():
    model, image = net2d(), image_of((3, 24, 20))
    instance = block((24, 20), (9, 8), (2, 2))
    tunnel = SeededNoiseTunnel(InstanceGradient(model, "mean"), seed=4)
    options = {"nt_samples": 4, "stdevs": 0.2, "instance": instance}
    variance = tunnel.attribute(image, nt_type="vargrad", **options)
    error = tunnel.standard_error[0]
    assert literal.worst((variance / 3).sqrt(), error) < 1e-4


def test_noise_is_standard_normal_and_its_own_for_each_copy_and_channel():
    shape = (17, 19, 23)
    drawn = {(n, c): draw_noise(0, n, c, shape) for n in range(2) for c in range(2)}
    for one in drawn.values():
        assert stats.kstest(one.ravel(), "norm").pvalue > 1e-3
    keys = list(drawn)
    for k, first in enumerate(keys):
        for second in keys[k + 1 :]:
            assert abs(np.corrcoef(drawn[first].ravel(), drawn[second].ravel())[0, 1]) < 0.05
    assert np.array_equal(drawn[1, 0], draw_noise(0, 1, 0, shape))
    assert not np.array_equal(drawn[1, 0], draw_noise(1, 1, 0, shape))


def test_a_tunnel_adds_this_noise_to_the_image():
    """The inputs that the model sees, not only what comes out (as in zennit's tests)."""
    seen = []
    model = nn.Conv2d(2, 2, 1)
    model.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach().clone()))
    image, instance = image_of((2, 6, 5)), block((6, 5), (2, 2), (1, 1))
    predictor = Predictor(model, whole_image((6, 5)))
    smoothgrad(predictor, image, instance, *settings_with("mean"))
    for n, x in enumerate(seen):
        noise = np.stack([s * draw_noise(SEED, n, c, (6, 5)) for c, s in enumerate(LEVELS)])
        assert np.abs((x - image)[0].numpy() - noise).max() < 1e-6
    assert len(seen) == COPIES


def test_levels_follow_each_channels_own_range_over_the_foreground():
    image = np.zeros((2, 4, 5), dtype=np.float32)
    foreground = np.zeros((4, 5), dtype=bool)
    foreground[1:3, 1:3] = True
    image[:, foreground] = [[-1, 0, 1, 3], [10, 10, 30, 20]]
    image[:, 0, 0] = 1000  # outside of the foreground: not looked at
    assert noise_levels(image, foreground, 0.05) == pytest.approx((0.2, 1.0))
    assert noise_levels(image, foreground, 0.05, "absolute") == (0.05, 0.05)
    robust = noise_levels(image, foreground, 0.05, "p99")
    assert robust[0] == pytest.approx(0.05 * np.subtract(*np.percentile([-1, 0, 1, 3], [99, 1])))


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_a_senseless_noise_is_refused(noise):
    with pytest.raises(SegxaiError, match="is not a level"):
        noise_levels(np.ones((1, 2, 2)), np.ones((2, 2), dtype=bool), noise)


def test_an_unknown_noise_unit_is_refused():
    with pytest.raises(SegxaiError, match="unknown noise unit 'rnage'.*did you mean 'range'"):
        noise_levels(np.ones((1, 2, 2)), np.ones((2, 2), dtype=bool), 0.1, "rnage")


def test_the_baseline_is_the_same_function_on_the_whole_class():
    instance_level, class_level = segxai_method("smoothgrad"), segxai_method("class_smoothgrad")
    assert instance_level.attribute is class_level.attribute
    assert (instance_level.scope, class_level.scope) == ("instance", "class")
    assert (instance_level.aggregator, class_level.aggregator) == ("signed_max", "mean")
