"""The layout of windows: their shares sum to 1 everywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segxai.errors import SegxaiError
from segxai.segment.windows import sliding_window


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 24)), min_size=1, max_size=3),
    overlap=st.floats(0, 0.9),
)
def test_shares_of_all_windows_sum_to_one(sizes, overlap):
    shape, window = zip(*sizes, strict=True)
    layout = sliding_window(shape, window, overlap)
    total = torch.zeros(shape)
    for one in layout.windows:
        total[one.inside(shape).index] += layout.share(one)
    assert torch.allclose(total, torch.ones(shape), atol=1e-4)  # hundreds of windows in float32


def test_a_crop_of_a_crop_is_itself():
    layout = sliding_window((40, 36), (16, 16))
    once, _ = layout.crop_to(np.array([[20, 20]]))
    twice, box = once.crop_to(np.array([[20, 20]]) - [once_start(layout)])
    assert (twice.windows, box.start) == (once.windows, (0, 0))


def once_start(layout):
    return np.array(layout.crop_to(np.array([[20, 20]]))[1].start)


def test_padding_is_said():
    assert sliding_window((40, 36), (16, 16)).notes() == ()
    assert sliding_window((40, 9), (16, 16)).notes() == (
        "an image of 40 x 9 voxels is padded with 0 to the window of 16 x 16",
    )


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        ((16, 16), 0.25, "a window of 2 axes .* does not fit an image of 3 axes"),
        ((16, 16, 16), 1.0, "overlap"),
        ((16, 0, 16), 0.25, "sizes must be at least 1"),
    ],
)
def test_a_senseless_layout_is_refused(window, overlap, message):
    with pytest.raises(SegxaiError, match=message):
        sliding_window((32, 32, 32), window, overlap)
