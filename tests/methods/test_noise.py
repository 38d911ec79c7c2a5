"""Noise: what is drawn for each copy and channel, and how strong it is."""

import itertools

import numpy as np
import pytest
from scipy import stats

from segxai.errors import SegxaiError
from segxai.methods.noise import draw_noise, noise_levels
from tests.networks import image_of


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


def test_no_two_seeds_copies_and_channels_share_a_draw():
    keys = list(itertools.product(range(4), repeat=3))
    assert len({draw_noise(*key, (8,)).tobytes() for key in keys}) == len(keys)


def test_the_draw_of_a_seed_never_changes():
    """Results are repeated from their provenance, which holds the seed alone."""
    found = draw_noise(7, 3, 1, (2, 2))
    stream = np.random.Philox(np.random.SeedSequence([7, 3, 1]))
    wanted = np.random.Generator(stream).standard_normal((2, 2), dtype=np.float32)
    np.testing.assert_array_equal(found, wanted)
    pinned = [[-0.0028002, -0.7495143], [2.1165528, 0.3851897]]
    np.testing.assert_allclose(found, pinned, atol=1e-6)


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


@pytest.mark.parametrize("scale", [0.02, 1.0, 255.0, 4096.0])
def test_noise_is_relative_to_the_range(scale):
    image = image_of((2, 32, 32))[0].numpy()
    everywhere = np.ones((32, 32), dtype=bool)
    found = noise_levels(scale * image - 1000, everywhere, 0.05)
    np.testing.assert_allclose(found, 0.05 * scale * np.ptp(image, axis=(1, 2)), rtol=1e-3)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_a_senseless_noise_is_refused(noise):
    with pytest.raises(SegxaiError, match="is not a level"):
        noise_levels(np.ones((1, 2, 2)), np.ones((2, 2), dtype=bool), noise)


def test_an_unknown_noise_unit_is_refused():
    with pytest.raises(SegxaiError, match="'rnage'.* 'range'"):
        noise_levels(np.ones((1, 2, 2)), np.ones((2, 2), dtype=bool), 0.1, "rnage")
