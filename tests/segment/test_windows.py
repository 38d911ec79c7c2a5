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
    evenly=st.booleans(),
    divisor=st.sampled_from([None, 1, 8]),
)
def test_shares_of_all_windows_sum_to_one(sizes, overlap, evenly, divisor):
    shape, window = zip(*sizes, strict=True)
    layout = sliding_window(shape, window, overlap, evenly=evenly, divisor=divisor)
    total = torch.zeros(shape)
    for one in layout.windows:
        total[one.inside(shape).index] += layout.share(one)
    assert torch.allclose(total, torch.ones(shape), atol=1e-4)  # hundreds of windows in float32


@settings(deadline=None, max_examples=60)
@given(size=st.integers(25, 400), overlap=st.floats(0, 0.9))
def test_windows_spread_evenly_are_as_many_and_at_equal_distances(size, overlap):
    def starts(evenly):
        layout = sliding_window((size,), (24,), overlap, evenly=evenly)
        return np.array([one.start[0] for one in layout.windows])

    found = starts(True)
    assert (found[0], found[-1]) == (0, size - 24)
    assert np.ptp(np.diff(found)) <= 1  # whole voxels
    assert np.diff(found).max() <= np.ceil(24 * (1 - overlap))
    assert len(found) <= len(starts(False))


def test_three_windows_of_a_head():
    """With the last one moved back, two of them share 82 of 96 voxels."""
    last, even = ([0, 72, 86], [0, 43, 86])
    for evenly, wanted in ((False, last), (True, even)):
        layout = sliding_window((182,), (96,), 0.25, evenly=evenly)
        assert [one.start[0] for one in layout.windows] == wanted


def test_a_window_that_is_larger_than_the_image_shrinks_to_a_multiple():
    layout = sliding_window((128, 164, 200), (160, 192, 160), divisor=8)
    assert {one.size for one in layout.windows} == {(128, 168, 160)}
    assert [one.start for one in layout.windows] == [(0, -2, 0), (0, -2, 40)]
    assert layout.notes() == (
        "an image of 128 x 164 x 200 voxels is padded with 0 to the window of 128 x 168 x 160",
    )


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
