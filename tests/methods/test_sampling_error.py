"""Estimates: what a sample misses, foretold from the sample, where the truth is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segxai.methods.aggregators import Mean, SignedMax
from segxai.methods.gradient import InstanceGradient, gradient
from segxai.methods.noise import draw_noise
from segxai.methods.sampling_error import (
    FOLDS,
    SamplingError,
    SamplingErrorTracker,
    SideBySide,
    sampling_error,
)
from segxai.methods.smoothgrad import smoothgrad
from segxai.rows.batch import RowBatch
from segxai.rows.sampling import sample_rows, strata
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of, net2d, small_unet

ERRORS = ("peak_error", "map_error", "map_error_l2")
SHAPE = (32, 32, 32)
NOISE = (0.1, 0.2)


def folded(rows, aggregator=None, edges=()):
    """The maps of a sample and of its parts, of rows that come in batches."""
    reported = []
    fold = SideBySide(aggregator or SignedMax(), reported.append)
    state = fold.start(torch.zeros_like(rows[0]))
    for a, b in itertools.pairwise([0, *edges, len(rows)]):
        if b > a:
            state = fold.add(state, RowBatch(rows[a:b], (0,) * (rows.ndim - 2)))
    found = fold.finish(state)
    (maps,) = reported
    assert torch.equal(found.nan_to_num(99), maps[0].nan_to_num(99))
    return maps


def truth(estimate, exact):
    """The three errors of an estimated map."""
    peak, gap = np.abs(estimate).max(), exact - estimate
    return (
        (np.abs(exact).max() - peak) / peak,
        np.abs(gap).max() / peak,
        np.linalg.norm(gap) / np.linalg.norm(exact),
    )


# ------------------------------------------------------------------------------------ the folds


@pytest.mark.parametrize("aggregator", [SignedMax(), Mean()], ids=lambda one: one.name)
@given(data=st.data())
@settings(deadline=None)
def test_parts_are_folded_whatever_the_batches(aggregator, data):
    count = data.draw(st.integers(4, 12))
    rows = torch.randn(count, 2, 3, 4, generator=torch.Generator().manual_seed(count))
    edges = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    parts = [rows, rows[::2], rows[1::2], *(rows[k::4] for k in range(4))]
    formula = {"mean": literal.mean, "signed_max": literal.signed_max}[aggregator.name]
    found = folded(rows, aggregator, edges)
    assert len(found) == len(parts) == FOLDS
    for one, part in zip(found, parts, strict=True):
        assert literal.worst(one, formula(part)) < 1e-6


# --------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("rows", "voxels"), [(4, 5), (16, 500), (63, 64), (40, 1000)])
def test_rows_that_share_nothing(rows, voxels):
    """Each decides a voxel of its own, with the same value: all three errors are known."""
    error = sampling_error(folded(torch.eye(voxels)[:rows, None]), rows, voxels)
    assert error.peak_error == pytest.approx(0, abs=1e-9)
    assert error.map_error == pytest.approx(1)
    # With as many rows in each part, the sum over the missing rows is exact.
    if rows % 4 == 0:
        assert error.map_error_l2 == pytest.approx(((voxels - rows) / voxels) ** 0.5)


def test_a_doubling_adds_at_most_twice_what_the_one_before_did():
    """By chance the rows of a half are nearly the same, and those of the other half, too."""
    rows = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.01]], [[0.01, 1.0]]])
    added = (1 - 0.01) ** 2  # by the second half to the first
    square = added * (2 + 4 + 8)
    told = sampling_error(folded(rows), 4, 32).map_error_l2
    assert told == pytest.approx((square / (2 + square)) ** 0.5, rel=1e-4)


def test_rows_that_are_all_the_same_miss_nothing():
    maps = folded(torch.full((8, 1, 5), -3.0))
    assert sampling_error(maps, 8, 1000) == SamplingError(0, 0, 0)


def test_of_a_mean_it_is_the_standard_error_with_its_correction_for_a_finite_population():
    """Rows of noise around 0: sigma^2 (1/n - 1/N), at each of 20 000 input voxels."""
    sigma, n, domain = 2.0, 64, 160
    rows = sigma * torch.randn(n, 1, 20_000, generator=torch.Generator().manual_seed(0))
    error = sampling_error(folded(rows, Mean()), n, domain)
    wanted = sigma**2 * (1 / n - 1 / domain)
    square = wanted / (sigma**2 / n + wanted)
    assert error.map_error_l2 == pytest.approx(square**0.5, rel=0.02)


@pytest.mark.parametrize("n", [16, 64])
def test_the_peak_of_evenly_distributed_rows(n):
    """The maximum of n numbers from 0 to 1 misses 1 / (n + 1): at least that is foretold."""
    generator = torch.Generator().manual_seed(1)
    domain, draws = 10 * n, 400
    told, missed = [], []
    for _ in range(draws):
        values = torch.rand(domain, 1, 1, generator=generator)
        error = sampling_error(folded(values[:n]), n, domain)
        peak = float(values[:n].max())
        told.append(error.peak_error * peak)
        missed.append(float(values.max()) - peak)
    assert 1 < np.mean(told) / np.mean(missed) < 8


def test_with_all_rows_nothing_is_missing():
    maps = folded(torch.randn(32, 1, 40, generator=torch.Generator().manual_seed(0)))
    assert sampling_error(maps, 32, 32) == SamplingError(0, 0, 0)
    told = [sampling_error(maps, 32, voxels).map_error_l2 for voxels in (33, 40, 64, 1000)]
    assert told == sorted(told)


@pytest.mark.parametrize("rows", [1, 3])
def test_too_few_rows_say_nothing(rows):
    assert sampling_error(folded(torch.ones(rows, 1, 5)), rows, 100) == SamplingError()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_map_without_a_peak_says_nothing(value):
    assert sampling_error(folded(torch.full((8, 1, 5), value)), 8, 100) == SamplingError()


# ---------------------------------------------------------------------------------- whole methods


class Gain(nn.Module):
    """A linear model: a convolution, multiplied by a field. Its rows are known."""

    def __init__(self, gain):
        super().__init__()
        self.convolution = nn.Conv3d(2, 2, 3, padding=1)
        self.register_buffer("gain", torch.as_tensor(gain, dtype=torch.float32), persistent=False)

    def forward(self, image):
        return self.convolution(image) * self.gain


@pytest.fixture(scope="module")
def core():
    """A cube whose core has ten times the gain: an image, an instance, a model."""
    instance = block(SHAPE, (10, 11, 12), (9, 9, 9))
    gain = np.ones(SHAPE)
    gain[tuple(instance.voxels[strata(instance.voxels) == 2].T)] = 10
    return literal.seeded(Gain(gain)), image_of((2, *SHAPE)), instance


def predictor_of(model):
    return Predictor(model, whole_image(SHAPE))


def settings_of(aggregator="signed_max", samples=1, **more):
    found = {"signed_max": SignedMax(), "mean": Mean()}[aggregator]
    return Asked(aggregator=found, samples=samples, noise_levels=NOISE, **more)


def test_extremes_in_a_stratum_are_found_by_its_share(core):
    """27 of 729 voxels are the core: 54 rows always have one of them, so the peak is exact."""
    model, image, instance = core
    exact = gradient(predictor_of(model), image, instance, *settings_of())
    for seed in range(5):
        sample = sample_rows(instance, 54, seed)
        found = gradient(predictor_of(model), image, sample, *settings_of())
        assert np.abs(found.values).max() == pytest.approx(np.abs(exact.values).max())


@pytest.mark.parametrize("method", [gradient, smoothgrad])
def test_as_many_rows_as_voxels_are_exact(core, method):
    model, image, instance = core
    small = replace(instance, voxels=instance.voxels[:60])
    exact = method(predictor_of(model), image, small, *settings_of())
    for count in (60, 1000):
        found = method(predictor_of(model), image, sample_rows(small, count, 0), *settings_of())
        np.testing.assert_array_equal(found.values, exact.values)
        assert found.facts == exact.facts
        assert not set(ERRORS) & set(found.facts)


@pytest.mark.parametrize("method", [gradient, smoothgrad])
def test_a_mean_takes_all_rows(method):
    """Also where the sample lies in fewer windows than the domain."""
    model, image = net2d(), image_of((3, 40, 36))
    instance = block((40, 36), (4, 4), (30, 28))
    predictor = Predictor(model, sliding_window((40, 36), (16, 16)))
    told = replace(settings_of("mean"), noise_levels=(0.1, 0.2, 0.3))
    exact, found = (
        method(predictor, image, one, *told) for one in (instance, sample_rows(instance, 3, 0))
    )
    np.testing.assert_array_equal(found.values, exact.values)
    assert found.facts == exact.facts
    assert found.facts["rows"] == 840
    assert not set(ERRORS) & set(found.facts)


def test_a_mean_takes_all_rows_when_it_is_called_by_itself():
    model, image = net2d(), image_of((3, 24, 20))
    instance = block((24, 20), (9, 8), (5, 4))
    method = InstanceGradient(model, "mean")
    exact = method.attribute(image, instance=instance)
    assert torch.equal(method.attribute(image, instance=sample_rows(instance, 3, 0)), exact)


def test_a_magnitude_is_never_above_the_exact_one():
    model, image = small_unet(), image_of((2, *SHAPE))
    instance = block(SHAPE, (11, 9, 12), (5, 6, 4))
    exact = gradient(predictor_of(model), image, instance, *settings_of()).on_grid(SHAPE)
    sample = sample_rows(instance, 30, 0)
    found = gradient(predictor_of(model), image, sample, *settings_of()).on_grid(SHAPE)
    assert (np.abs(found) <= np.abs(exact) + 1e-6 * np.abs(exact).max()).all()


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 7}, {"engine": "dense"}])
def test_the_error_does_not_depend_on_how_rows_are_computed(options):
    model, image = small_unet(), image_of((2, *SHAPE))
    sample = sample_rows(block(SHAPE, (11, 9, 12), (8, 6, 7)), 24, 0)
    wanted = gradient(predictor_of(model), image, sample, *settings_of()).facts
    found = gradient(predictor_of(model), image, sample, *settings_of(**options)).facts
    assert [found[name] for name in ERRORS] == pytest.approx([wanted[name] for name in ERRORS])


def test_copies_are_averaged_before_they_are_compared():
    """The error of a SmoothGrad map is that of the averages of its copies' parts."""
    model, image = small_unet(), image_of((2, *SHAPE))
    sample = sample_rows(block(SHAPE, (11, 9, 12), (6, 6, 5)), 24, 0)
    reported = []
    method = InstanceGradient(model, SideBySide(SignedMax(), reported.append))
    for copy in range(3):
        noise = [level * draw_noise(0, copy, c, SHAPE) for c, level in enumerate(NOISE)]
        method.attribute(image + torch.from_numpy(np.stack(noise)[None]), instance=sample)
    wanted = sampling_error(sum(reported) / 3, 24, 180)
    found = smoothgrad(predictor_of(model), image, sample, *settings_of(samples=3)).facts
    assert [found[name] for name in ERRORS] == pytest.approx(
        [getattr(wanted, name) for name in ERRORS], rel=1e-3
    )


def test_of_a_linear_model_copies_change_no_error(core):
    model, image, instance = core
    sample = sample_rows(instance, 40, 0)
    wanted = gradient(predictor_of(model), image, sample, *settings_of()).facts
    found = smoothgrad(predictor_of(model), image, sample, *settings_of(samples=3)).facts
    assert [found[name] for name in ERRORS] == pytest.approx(
        [wanted[name] for name in ERRORS], rel=1e-3
    )


def test_a_growth_that_was_kept_goes_on():
    sample = sample_rows(block((9, 9), (1, 1), (6, 6)), 12, 0)
    maps = torch.randn(3, FOLDS, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    unbroken, broken = SamplingErrorTracker(), SamplingErrorTracker()
    assert broken.state() == {}
    for one in maps:
        unbroken.include(one)
        kept = broken.state()
        broken = SamplingErrorTracker()
        broken.restore(kept, one)
        broken.include(one)
    assert broken.facts(sample) == unbroken.facts(sample)


def test_an_error_is_near_the_true_one():
    """On average over samples: the map's within a quarter, the peak's 1 to 2.5 times the true one.

    Signs that flip make the L2 error of this network larger than that of a map of zeros.
    """
    model, image = small_unet(), image_of((2, *SHAPE))
    instance = block(SHAPE, (11, 9, 12), (8, 7, 9))
    exact = gradient(predictor_of(model), image, instance, *settings_of()).on_grid(SHAPE)
    told, true = [], []
    for seed in range(16):
        sample = sample_rows(instance, 48, seed)
        found = gradient(predictor_of(model), image, sample, *settings_of())
        told.append([found.facts[name] for name in ERRORS])
        true.append(truth(found.on_grid(SHAPE), exact))
    peak, anywhere, l2 = np.mean(told, axis=0) / np.mean(true, axis=0)
    assert 0.8 < l2 < 1.25
    assert 0.8 < anywhere < 1.25
    assert 1 < peak < 2.5
