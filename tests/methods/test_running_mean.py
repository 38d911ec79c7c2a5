"""The error of a mean of noisy copies, relative to its peak."""

import numpy as np
import pytest
import torch

from segxai.methods.running_mean import Sums


def test_an_error_around_a_mean_of_zero_is_infinite():
    sums = Sums().add((torch.ones(1, 2),)).add((-torch.ones(1, 2),))
    assert sums.error_of_peak() == np.inf


def test_the_peak_and_the_error_are_over_all_channels():
    """The worst voxel of one channel, relative to the peak of another."""
    sums = Sums()
    for quiet, loud in [(1.0, 8.0), (3.0, 8.0)]:
        sums = sums.add((torch.tensor([[quiet, 0.0]]), torch.tensor([[0.0, -loud]])))
    assert sums.error_of_peak() == pytest.approx(1.0 / 8.0)


@pytest.mark.parametrize("copies", [3, 50, 77])
def test_where_nothing_varies_the_error_is_zero(copies):
    """Whatever the rounding of the squares: a mean of them can lie below the square of a mean."""
    same, sums = torch.linspace(0.1, 30, 500), Sums()
    for _ in range(copies):
        sums = sums.add((same,))
    (error,) = sums.standard_error()
    assert error.isfinite().all()
    assert float((error / same).max()) < 1e-6
