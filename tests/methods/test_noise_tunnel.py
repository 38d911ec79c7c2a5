"""Noisy copies: whatever their batches, until their error is small enough, and in pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from torch import nn

import segxai
from segxai.methods.gradient import InstanceGradient
from segxai.methods.noise import EXPECTED_COPIES, FEWEST_COPIES, draw_noise
from segxai.methods.noise_tunnel import SeededNoiseTunnel
from segxai.methods.smoothgrad import smoothgrad
from segxai.plugins.registry import load_aggregator
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests import literal
from tests.asked import Asked
from tests.commandline import make_case, use_toys
from tests.commandline import segxai as command
from tests.networks import block, image_of, net2d

SHAPE = (6, 5)
LEVEL, SEED = 0.3, 7


class Quadratic(nn.Module):
    """The logit of class 1 is a x^2 / 2: its gradient a x is linear in the noise."""

    a = 1.5

    def forward(self, image):
        logit = self.a / 2 * image[:, :1] ** 2
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


class Cubic(nn.Module):
    """The logit of class 1 is x^3 / 3: its gradient x^2 has an even part in the noise."""

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), image**3 / 3], dim=1)


def settings_of(samples, **more):
    more = {"noise_levels": (LEVEL,), "seed": SEED} | more
    return Asked(aggregator=load_aggregator("signed_max"), samples=samples, **more)


def found(model, image, instance, settings):
    return smoothgrad(Predictor(model, whole_image(image.shape[2:])), image, instance, *settings)


@pytest.fixture
def quadratic():
    """Model, image, instance, and what each noisy copy's gradient is at the instance's voxels."""
    image = torch.full((1, 1, *SHAPE), 0.5)
    image[0, 0, 2, 2], image[0, 0, 2, 3] = 2.0, -1.0
    instance = block(SHAPE, (2, 2), (1, 2))
    clean = image[0, 0].numpy()[tuple(instance.voxels.T)].astype(float)

    def gradients(copies, sign=1):
        noise = [draw_noise(SEED, n, 0, SHAPE)[tuple(instance.voxels.T)] for n in range(copies)]
        return Quadratic.a * (clean + sign * LEVEL * np.array(noise, dtype=float))

    return Quadratic(), image, instance, gradients


def error_of(gradients):
    """The largest standard error over the voxels, relative to the peak of the mean."""
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(gradients))
    return error.max() / np.abs(gradients.mean(axis=0)).max()


def noise_seen(copies, levels, **more):
    """What a model saw of each copy, without the image itself."""
    seen, model, image = [], nn.Conv2d(2, 2, 1), image_of((2, *SHAPE))
    model.register_forward_hook(
        lambda _, inputs, __: seen.append((inputs[0].detach() - image)[0].numpy())
    )
    settings = settings_of(copies, noise_levels=levels, **more)
    settings = replace(settings, aggregator=load_aggregator("mean"))
    found(model, image, block(SHAPE, (2, 2), (1, 1)), settings)
    return seen


def drawn(copy, levels):
    """The noise of a copy."""
    return np.stack([s * draw_noise(SEED, copy, c, SHAPE) for c, s in enumerate(levels)])


# --------------------------------------------------------------------------------- the same noise


def test_a_tunnel_adds_this_noise_to_the_image():
    """The inputs that the model sees, not only what comes out (as in zennit's tests)."""
    levels = (0.3, 0.1)
    seen = noise_seen(3, levels)
    for copy, noise in enumerate(seen):
        assert np.abs(noise - drawn(copy, levels)).max() < 1e-6
    assert len(seen) == 3


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
        assert literal.worst(one, other) < 1e-5


def test_the_images_of_a_batch_do_not_mix():
    model, images = net2d(), [image_of((3, 24, 20), seed) for seed in (0, 1)]
    tunnel = SeededNoiseTunnel(InstanceGradient(model, "mean"), seed=4)
    options = {"nt_samples": 4, "stdevs": 0.2, "instance": block((24, 20), (9, 8), (2, 2))}
    alone = torch.cat([tunnel.attribute(image, **options) for image in images])
    together = tunnel.attribute(torch.cat(images), nt_samples_batch_size=2, **options)
    assert literal.worst(together, alone) < 1e-5


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
        assert literal.worst(one, other) < 1e-5


def test_captums_other_statistics_still_work():
    model, image = net2d(), image_of((3, 24, 20))
    instance = block((24, 20), (9, 8), (2, 2))
    tunnel = SeededNoiseTunnel(InstanceGradient(model, "mean"), seed=4)
    options = {"nt_samples": 4, "stdevs": 0.2, "instance": instance}
    variance = tunnel.attribute(image, nt_type="vargrad", **options)
    error = tunnel.standard_error[0]
    assert literal.worst((variance / 3).sqrt(), error) < 1e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nt_samples": 5}, "copies come in pairs.*not 5 and 'smoothgrad'"),
        ({"nt_samples": 4, "nt_type": "vargrad"}, "copies come in pairs.*not 4 and 'vargrad'"),
        ({"nt_type": "smooth"}, "unknown nt_type 'smooth'; known: smoothgrad, smoothgrad_sq"),
        ({"nt_samples": 0}, "nt_samples 0: give 1 or more"),
    ],
)
def test_what_a_tunnel_cannot_do_is_refused(quadratic, options, words):
    model, image, instance, _ = quadratic
    tunnel = SeededNoiseTunnel(InstanceGradient(model), antithetic=True)
    with pytest.raises(ValueError, match=words):
        tunnel.attribute(image, instance=instance, **options)


# ------------------------------------------------------------------------------------ until enough


def test_of_a_linear_model_the_fewest_copies_are_enough():
    model = literal.seeded(nn.Conv2d(1, 2, 3, padding=1))
    image, instance = image_of((1, *SHAPE)), block(SHAPE, (2, 2), (2, 2))
    one = found(model, image, instance, settings_of("auto"))
    assert one.facts["samples"] == FEWEST_COPIES
    assert one.facts["standard_error_of_peak"] < 1e-7
    assert one.facts["within_tolerance"]


@pytest.mark.parametrize("tolerance", [0.05, 0.03, 0.02])
def test_it_stops_at_the_first_copy_whose_error_is_within_the_tolerance(quadratic, tolerance):
    model, image, instance, gradients = quadratic
    all_copies = gradients(400)
    errors = np.array(
        [np.inf] * FEWEST_COPIES + [error_of(all_copies[:n]) for n in range(FEWEST_COPIES, 400)]
    )
    one = found(model, image, instance, settings_of("auto", tolerance=tolerance))
    copies = one.facts["samples"]
    # Where an error is the tolerance up to rounding, either number of copies is right.
    assert FEWEST_COPIES <= copies < 400
    assert errors[copies] <= tolerance * (1 + 1e-5)
    assert (errors[:copies] > tolerance * (1 - 1e-5)).all()
    assert one.facts["standard_error_of_peak"] == pytest.approx(errors[copies], rel=1e-5)
    values = one.on_grid(SHAPE)[0][tuple(instance.voxels.T)]
    assert values == pytest.approx(all_copies[:copies].mean(axis=0), rel=1e-6)


def test_the_same_request_takes_the_same_copies(quadratic):
    model, image, instance, _ = quadratic
    first, second = (found(model, image, instance, settings_of("auto")) for _ in range(2))
    assert first.facts == second.facts
    np.testing.assert_array_equal(first.values, second.values)


def test_so_many_copies_asked_for_are_the_same_map(quadratic):
    model, image, instance, _ = quadratic
    auto = found(model, image, instance, settings_of("auto"))
    fixed = found(model, image, instance, settings_of(auto.facts["samples"]))
    np.testing.assert_array_equal(auto.values, fixed.values)
    np.testing.assert_array_equal(auto.standard_error, fixed.standard_error)
    assert "within_tolerance" not in fixed.facts


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("batch", [2, 7])
def test_where_to_stop_does_not_depend_on_batches(batch, antithetic):
    model, image = net2d(), image_of((3, 24, 20))
    tunnel = SeededNoiseTunnel(
        InstanceGradient(model), seed=4, tolerance=0.1, antithetic=antithetic
    )
    options = {"nt_samples": 100, "stdevs": 0.2, "instance": block((24, 20), (9, 8), (2, 2))}
    wanted = tunnel.attribute(image, **options)
    copies = tunnel.sums.copies
    assert 2 * FEWEST_COPIES < copies < 100
    together = tunnel.attribute(image, nt_samples_batch_size=batch, **options)
    assert tunnel.sums.copies == copies
    assert literal.worst(together, wanted) < 1e-6


def test_the_most_copies_are_said_and_recorded(quadratic, monkeypatch):
    monkeypatch.setattr("segxai.methods.options.MOST_COPIES", 14)
    model, image, instance, _ = quadratic
    words = "instance 1: 14 noisy copies leave a standard error of .* more than the tolerance of"
    with pytest.warns(UserWarning, match=words):
        one = found(model, image, instance, settings_of("auto", tolerance=1e-4))
    assert one.facts["samples"] == 14
    assert one.facts["within_tolerance"] is False


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_map_that_is_not_finite_stops_early(quadratic, value):
    """More copies cannot mend it."""
    model, image, instance, _ = quadratic
    image[0, 0, 2, 2] = value
    with pytest.warns(UserWarning, match="more than the tolerance"):
        one = found(model, image, instance, settings_of("auto"))
    assert one.facts["samples"] == FEWEST_COPIES
    assert one.facts["standard_error_of_peak"] is None
    assert one.facts["within_tolerance"] is False


def test_a_map_of_zeros_is_known_exactly():
    image, instance = torch.zeros(1, 1, *SHAPE), block(SHAPE, (2, 2), (1, 2))
    one = found(Quadratic(), image, instance, settings_of("auto", noise_levels=(0.0,)))
    assert (one.facts["samples"], one.facts["standard_error_of_peak"]) == (FEWEST_COPIES, 0.0)


def test_a_single_copy_has_no_error(quadratic):
    model, image, instance, _ = quadratic
    one = found(model, image, instance, settings_of(1))
    assert one.standard_error is None
    assert one.facts["standard_error_of_peak"] is None


@pytest.mark.parametrize("samples", [4, "auto"])
def test_ticks_never_exceed_the_whole(quadratic, samples):
    model, image, instance, _ = quadratic
    ticks = []
    found(model, image, instance, settings_of(samples, tick=ticks.append))
    assert min(ticks) > 0
    assert sum(ticks) <= 1 + 1e-9
    assert sum(ticks) > (0.8 if samples == "auto" else 1 - 1e-9)


def test_the_expected_number_follows_from_the_error_so_far(quadratic):
    """Progress and time left are as good as this."""
    model, image, instance, gradients = quadratic
    expected, tolerance = [], 0.02

    def tick(share):
        expected.append(tunnel.expected)

    tunnel = SeededNoiseTunnel(InstanceGradient(model, tick=tick), seed=SEED, tolerance=tolerance)
    tunnel.attribute(image, nt_samples=500, stdevs=LEVEL, instance=instance)
    assert expected[:FEWEST_COPIES] == [EXPECTED_COPIES] * FEWEST_COPIES
    wanted = 20 * (error_of(gradients(20)) / tolerance) ** 2
    assert expected[20] == pytest.approx(wanted, abs=1)


def test_of_pairs_the_expected_number_counts_both_copies(quadratic):
    _, image, instance, _ = quadratic
    model = Cubic()
    expected, tolerance = [], 0.005

    def tick(share):
        expected.append((tunnel.sums.copies, tunnel.expected))

    tunnel = SeededNoiseTunnel(
        InstanceGradient(model, tick=tick), seed=SEED, tolerance=tolerance, antithetic=True
    )
    tunnel.attribute(image, nt_samples=2000, stdevs=LEVEL, instance=instance)
    short = SeededNoiseTunnel(InstanceGradient(model), seed=SEED, antithetic=True)
    short.attribute(image, nt_samples=40, stdevs=LEVEL, instance=instance)
    wanted = 2 * 20 * (short.sums.error_of_peak() / tolerance) ** 2
    assert wanted > 60
    assert dict(expected)[40] == pytest.approx(wanted, abs=2)
    assert dict(expected)[40] % 2 == 0


# --------------------------------------------------------------------------------- antithetic pairs


def test_the_two_of_a_pair_have_opposite_noise():
    levels = (0.3, 0.1)
    seen = noise_seen(4, levels, antithetic=True)
    assert len(seen) == 4
    for copy, noise in enumerate(seen):
        assert np.abs(noise - (-1) ** copy * drawn(copy // 2, levels)).max() < 1e-6


@pytest.mark.parametrize("samples", [2, 6])
def test_the_odd_part_of_the_noise_cancels_in_every_pair(quadratic, samples):
    model, image, instance, _ = quadratic
    clean = InstanceGradient(model).attribute(image, instance=instance)[0]
    paired = found(model, image, instance, settings_of(samples, antithetic=True))
    assert literal.worst(paired.on_grid(SHAPE), clean) < 1e-6
    alone = found(model, image, instance, settings_of(samples))
    assert literal.worst(alone.on_grid(SHAPE), clean) > 0.01
    if samples == 2:
        assert paired.standard_error is None  # one pair: its error is not known
    else:
        assert paired.facts["standard_error_of_peak"] < 1e-6


def test_the_even_part_does_not_cancel():
    image, instance = torch.full((1, 1, *SHAPE), 0.5), block(SHAPE, (2, 2), (1, 1))
    noise = np.array([draw_noise(SEED, n, 0, SHAPE)[2, 2] for n in range(3)], dtype=float)
    pairs = 0.5**2 + (LEVEL * noise) ** 2  # the mean of (x + n)^2 and (x - n)^2
    one = found(Cubic(), image, instance, settings_of(6, antithetic=True))
    at = (0, *(instance.voxels[0] - one.offset))
    assert one.values[at] == pytest.approx(pairs.mean(), rel=1e-5)
    assert one.standard_error[at] == pytest.approx(pairs.std(ddof=1) / 3**0.5, rel=1e-4)


def test_the_error_is_that_over_pairs():
    model, image, levels = net2d(), image_of((3, 24, 20)), (0.1, 0.2, 0.3)
    instance, grid, pairs = block((24, 20), (9, 8), (3, 2)), (24, 20), 4
    method = InstanceGradient(model)
    means = []
    for n in range(pairs):
        noise = torch.stack(
            [s * torch.from_numpy(draw_noise(4, n, c, grid)) for c, s in enumerate(levels)]
        )
        two = [method.attribute(image + sign * noise, instance=instance)[0] for sign in (1, -1)]
        means.append((two[0].double() + two[1].double()) / 2)
    wanted = torch.stack(means)
    tunnel = SeededNoiseTunnel(method, seed=4, antithetic=True)
    smooth = tunnel.attribute(
        image.split(1, dim=1), nt_samples=2 * pairs, stdevs=levels, instance=instance
    )
    assert literal.worst(torch.cat(smooth, dim=1)[0], wanted.mean(dim=0)) < 1e-6
    error = torch.cat(tunnel.standard_error, dim=1)[0]
    assert literal.worst(error, wanted.std(dim=0) / pairs**0.5) < 1e-4


def test_pairs_are_counted_to_the_tolerance(quadratic):
    model, image, instance, _ = quadratic
    one = found(model, image, instance, settings_of("auto", antithetic=True))
    assert one.facts["samples"] == 2 * FEWEST_COPIES
    noisy = Cubic(), image, block(SHAPE, (2, 2), (1, 1))
    pairs = found(*noisy, settings_of("auto", antithetic=True, tolerance=0.005))
    assert pairs.facts["samples"] % 2 == 0
    assert pairs.facts["samples"] > 2 * FEWEST_COPIES
    assert pairs.facts["standard_error_of_peak"] <= 0.005


# ---------------------------------------------------------------------------------------- the doors


def test_explain_takes_both(quadratic):
    model, image, instance, _ = quadratic
    more = {"noise_unit": "absolute", "noise": LEVEL, "seed": SEED}
    mask = instance.mask(SHAPE)
    saliency = segxai.explain(model, image[0], mask, samples="auto", tolerance=0.05, **more)
    wanted = found(model, image, instance, settings_of("auto", tolerance=0.05))
    assert saliency.attrs["samples"] == wanted.facts["samples"]
    np.testing.assert_array_equal(saliency.values, wanted.on_grid(SHAPE))
    paired = segxai.explain(model, image[0], mask, samples=2, antithetic=True, **more)
    assert paired.attrs["antithetic"]
    assert paired.values[0, 2, 2] == pytest.approx(Quadratic.a * 2.0, rel=1e-6)


def test_a_run_records_how_many_and_can_be_repeated(folder, monkeypatch):
    use_toys(monkeypatch)
    make_case(folder)
    words = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
    words += ("--samples", "auto", "--tolerance", "0.1", "--antithetic")
    assert "if 50 noisy copies are enough; 500 at most" in command(*words, "--dry-run").out
    done = command(*words)
    assert done.status == 0, done.err
    with segxai.open_result("r.h5") as tree:
        run = tree["attributions/smoothgrad-signed_max"]
        provenance = segxai.store.schema.provenance_of(run.to_dataset())
        found = segxai.maps(tree)
        facts = [found.facts(label) for label in found]
    asked = {name: provenance[name] for name in ("samples", "tolerance", "antithetic")}
    assert asked == {"samples": "auto", "tolerance": 0.1, "antithetic": True}
    assert all(one["within_tolerance"] and one["samples"] >= 2 * FEWEST_COPIES for one in facts)
    assert "nothing left to do" in command(*words).err
    monkeypatch.setattr(
        "segxai.methods.noise_tunnel.FEWEST_COPIES", 3
    )  # as if float noise stopped it earlier
    again = command("rerun", "r.h5")
    assert again.status == 0, again.out
