"""Laws of the lesion plugin's normalisation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segxai_ms_lesion.preprocessing import CLIP_STANDARD_DEVIATIONS, normalise


def head(seed: int = 0) -> np.ndarray:
    """A block of brain with a few outliers, in a background of zeros."""
    random = np.random.default_rng(seed)
    image = np.zeros((12, 14, 10), dtype=np.float32)
    image[2:-2, 2:-2, 2:-2] = random.normal(100, 20, (8, 10, 6))
    image[3, 3, 3], image[4, 4, 4] = 5000, -40
    return image


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(1e-3, 1e4), seed=st.integers(0, 9))
def test_a_positive_factor_cancels_out(factor: float, seed: int) -> None:
    image = head(seed)
    scaled = (factor * image).astype(np.float32)
    np.testing.assert_allclose(normalise(scaled), normalise(image), atol=1e-4)


def test_background_stays_zero_and_brain_is_standardised() -> None:
    image = head()
    result = normalise(image)
    assert result.dtype == np.float32
    assert not result[image == 0].any()
    inner = np.clip(result[image != 0], *np.percentile(result[image != 0], (0.5, 99.5)))
    assert abs(inner.mean()) < 1e-3
    assert abs(inner.std() - 1) < 1e-3


def test_a_normalised_image_is_left_as_it_is() -> None:
    once = normalise(head())
    np.testing.assert_allclose(normalise(once), once, atol=1e-3)


def test_values_below_zero_belong_to_the_brain() -> None:
    """Derived again, voxel by voxel: only an exact 0 is background."""
    image = np.zeros((6, 6, 6), dtype=np.float32)
    image[1:5, 1:5, 1:5] = np.random.default_rng(1).normal(0, 3, (4, 4, 4))
    values = sorted(float(one) for one in image.ravel() if one != 0)
    low, high = np.percentile(values, 0.5), np.percentile(values, 99.5)
    kept = [min(max(one, low), high) for one in values]
    mean = sum(kept) / len(kept)
    spread = (sum((one - mean) ** 2 for one in kept) / len(kept)) ** 0.5
    wanted = [0 if one == 0 else (one - mean) / spread for one in image.ravel()]
    assert max(map(abs, wanted)) < CLIP_STANDARD_DEVIATIONS
    np.testing.assert_allclose(normalise(image).ravel(), wanted, atol=1e-5)


def test_outliers_are_clipped() -> None:
    result = normalise(head())
    assert result.max() == CLIP_STANDARD_DEVIATIONS
    assert result.min() == -CLIP_STANDARD_DEVIATIONS


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_an_image_of_one_value_becomes_zeros(level: float) -> None:
    image = np.full((4, 4, 4), level, dtype=np.float32)
    np.testing.assert_array_equal(normalise(image), np.zeros((4, 4, 4), dtype=np.float32))
