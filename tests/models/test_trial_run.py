"""A trial run of a network tells what does not fit."""

import pytest
from torch import nn

from segxai.errors import SegxaiError
from segxai.models.trial_run import probe_whole, probe_window


def test_a_window_with_too_few_axes_is_told_of_them():
    network = nn.Conv3d(4, 2, 3, padding=1)
    words = "convolves along 3 axes, but an image or a window of 16,16 has 2"
    with pytest.raises(SegxaiError, match=words):
        probe_window(network, ("a", "b", "c", "d"), (16, 16))
    with pytest.raises(SegxaiError, match=words):
        probe_whole(network, ("a", "b", "c", "d"), (16, 16))
