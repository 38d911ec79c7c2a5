"""Every measure against a closed form, and against a slow literal version."""

import math

import numpy as np
import pytest

from segxai.compare import measures
from segxai.compare.measures import MEASURES, Overlay, measured

SHAPE = (9, 8, 7)
STEPS = np.diag([1.0, 2.0, 3.0])


def overlay(first, second, compared=None, variance=None, steps=STEPS):
    compared = np.ones(first.shape, dtype=bool) if compared is None else compared
    return Overlay(first.astype(float), second.astype(float), compared, steps, variance)


def random_maps(seed, shape=SHAPE):
    generator = np.random.default_rng(seed)
    first = generator.normal(size=shape)
    second = 0.6 * first + generator.normal(size=shape)
    first[generator.random(shape) < 0.2] = 0
    second[generator.random(shape) < 0.2] = 0
    return first, second, generator.random(shape) < 0.8


# ---------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("shape", [SHAPE, (12, 11)])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: one.name)
def test_a_map_is_like_itself(measure, shape):
    first, _, compared = random_maps(0, shape)
    same = overlay(first, first, compared, np.ones(shape), np.eye(len(shape)))
    value = measure.compute(same)
    if measure.of_itself is None:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(measure.of_itself, abs=1e-12)


def test_the_opposite_map():
    first, _, compared = random_maps(1)
    found = measured(overlay(first, -first, compared), signs=True, units=True)
    assert found["spearman"] == pytest.approx(-1)
    assert found["cosine"] == pytest.approx(-1)
    assert found["sign_agreement"] == 0
    assert found["top_1_overlap"] == found["top_5_overlap"] == 1
    assert found["relative_difference"] == pytest.approx(2)
    assert found["peak_distance"] == found["centre_distance"] == 0


def test_a_monotonic_change_of_scale_changes_no_rank():
    first, _, compared = random_maps(2)
    found = measured(overlay(first, 5 * first**3, compared), signs=True, units=True)
    for name in ("spearman", "sign_agreement", "top_1_overlap", "top_5_overlap"):
        assert found[name] == pytest.approx(1)
    assert found["cosine"] < 0.9
    assert found["ssim"] < 0.9


def test_maps_that_share_no_voxel():
    first, second = np.zeros(SHAPE), np.zeros(SHAPE)
    first[1:3, 2, 2], second[5:7, 2, 2] = 3, 3
    found = measured(overlay(first, second), signs=True, units=True)
    assert found["cosine"] == found["sign_agreement"] == found["top_5_overlap"] == 0
    assert found["relative_difference"] == pytest.approx(math.sqrt(2))


def test_a_known_shift_is_measured_in_millimetres():
    first, second = np.zeros(SHAPE), np.zeros(SHAPE)
    first[2, 3, 1] = -5  # the peak is one of magnitude
    second[4, 3, 3] = 5
    found = measured(overlay(first, second), signs=True, units=True)
    assert found["peak_distance"] == found["centre_distance"] == math.hypot(2 * 1, 2 * 3)
    second[4, 3, 5] = 4.999  # moves the centre alone
    found = measured(overlay(first, second), signs=True, units=True)
    assert found["peak_distance"] == math.hypot(2, 6)
    assert found["centre_distance"] == pytest.approx(math.hypot(2, 9), abs=1e-2)


def test_an_oblique_grid_has_its_own_lengths():
    turn = np.array([[0, -2.0], [1.5, 0]])  # the first axis runs along y in steps of 1.5 mm
    first, second = np.zeros((9, 9)), np.zeros((9, 9))
    first[1, 1], second[3, 1] = 1, 1
    assert measures.peak_distance(overlay(first, second, steps=turn)) == 3


def test_known_overlaps_of_the_most_salient_voxels():
    first, second = np.arange(1.0, 201), np.arange(1.0, 201)
    second[[190, 191, 192]] = 0  # 3 of the largest 10; the next lower ones take their place
    shown = overlay(first.reshape(10, 20), second.reshape(10, 20), steps=np.eye(2))
    assert measures.overlap(0.05)(shown) == pytest.approx(7 / 10)
    assert measures.overlap(0.01)(shown) == 1
    second[195] *= -1
    shown = overlay(first.reshape(10, 20), second.reshape(10, 20), steps=np.eye(2))
    assert measures.overlap(0.05)(shown) == pytest.approx(7 / 10)
    assert measures.sign_agreement(shown) == pytest.approx(9 / 13)  # 3 are 0, and one is turned


def test_ties_count_all_and_zeros_never_do():
    values = np.array([0.0, 0, 2, 2, 2, 1, 0, 0, 0, 0])
    assert measures.largest(values, 0.1).tolist() == [one == 2 for one in values]
    assert not measures.largest(np.zeros(10), 0.5).any()


def test_errors_explain_the_difference_of_independent_maps():
    generator = np.random.default_rng(0)
    shape, errors = (40, 40, 20), np.array([0.3, 0.4])
    truth = generator.normal(size=shape)
    first, second = (truth + error * generator.normal(size=shape) for error in errors)
    variance = np.full(shape, (errors**2).sum())
    assert measures.explained_by_error(overlay(first, second, None, variance)) == pytest.approx(
        1, abs=0.02
    )
    half = overlay(first, second, None, variance / 2)
    assert measures.explained_by_error(half) == pytest.approx(0.5, abs=0.01)


def test_what_has_no_meaning_is_nan():
    first, second, _ = random_maps(3)
    nothing = np.zeros(SHAPE)
    found = measured(overlay(first, nothing), signs=True, units=True)
    names = ("spearman", "cosine", "peak_distance", "centre_distance")
    assert all(math.isnan(found[name]) for name in names)
    assert all(
        map(math.isnan, measured(overlay(nothing, nothing), signs=True, units=True).values())
    )
    broken = np.where(np.arange(first.size).reshape(SHAPE) == 5, np.nan, first)
    empty = overlay(first, second, np.zeros(SHAPE, dtype=bool))
    for one in (overlay(broken, second), empty):
        assert all(map(math.isnan, measured(one, signs=True, units=True).values()))
    thin = overlay(first[:, :, :2], second[:, :, :2])
    assert math.isnan(measures.ssim(thin))


def test_windows_of_a_thin_box_are_as_wide_as_odd_numbers_allow():
    first, second, compared = (one[:, :, :6] for one in random_maps(5))
    found = measures.ssim(overlay(first, second, compared))
    assert found == pytest.approx(literal_ssim(first, second, compared, size=5))


def test_values_are_compared_in_one_unit_and_signs_where_there_are_any():
    pair = overlay(*random_maps(4))
    of_values = {"ssim", "relative_difference", "explained_by_error"}
    whole = set(measured(pair, signs=True, units=True))
    assert set(measured(pair, signs=True, units=False)) == whole - of_values
    assert set(measured(pair, signs=False, units=True)) == whole - {"sign_agreement"}


# ------------------------------------------------------------------- slow literal versions


def mean_ranks(values):
    return [
        sum(1 for other in values if other < one) + (sum(other == one for other in values) + 1) / 2
        for one in values
    ]


def literal_correlation(xs, ys):
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    top = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    squares = sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys)
    return top / math.sqrt(squares)


def literal_top(values, share):
    ordered = sorted((abs(value) for value in values), reverse=True)
    limit = ordered[math.ceil(share * len(values)) - 1]
    return {i for i, value in enumerate(values) if abs(value) >= limit and value != 0}


def literal_ssim(first, second, compared, size=7):
    """Wang et al. 2004, eq. 13, in cubic windows; the border is reflected, as skimage has it."""
    peak = max(abs(first[compared]).max(), abs(second[compared]).max())
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    half, found = size // 2, []
    padded = [np.pad(one, half, mode="symmetric") for one in (first, second)]
    for voxel in np.argwhere(compared):
        x, y = (one[tuple(slice(v, v + size) for v in voxel)].ravel() for one in padded)
        covariance = np.cov(x, y)
        top = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
        bottom = (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
        found.append(top / bottom)
    return np.mean(found)


@pytest.mark.parametrize("seed", range(3))
def test_measures_agree_with_literal_loops(seed):
    first, second, compared = random_maps(10 + seed)
    variance = np.random.default_rng(seed).random(SHAPE)
    found = measured(overlay(first, second, compared, variance), signs=True, units=True)
    voxels = [tuple(voxel) for voxel in np.argwhere(compared)]
    xs, ys = ([one[voxel] for voxel in voxels] for one in (first, second))
    expected = {"spearman": literal_correlation(mean_ranks(xs), mean_ranks(ys))}
    dot = sum(x * y for x, y in zip(xs, ys, strict=True))
    norms = [math.sqrt(sum(value**2 for value in one)) for one in (xs, ys)]
    expected["cosine"] = dot / (norms[0] * norms[1])
    for share, name in ((0.01, "top_1_overlap"), (0.05, "top_5_overlap")):
        one, other = literal_top(xs, share), literal_top(ys, share)
        expected[name] = 2 * len(one & other) / (len(one) + len(other))
    salient = literal_top(xs, 0.05) | literal_top(ys, 0.05)
    agree = [np.sign(xs[i]) == np.sign(ys[i]) for i in salient]
    expected["sign_agreement"] = sum(agree) / len(agree)
    expected["ssim"] = literal_ssim(first, second, compared)
    places = [np.array(voxel) * [1, 2, 3] for voxel in voxels]
    peaks = [places[max(range(len(one)), key=lambda i: abs(one[i]))] for one in (xs, ys)]
    expected["peak_distance"] = math.dist(*peaks)
    centres = [
        sum(abs(value) * place for value, place in zip(one, places, strict=True))
        / sum(map(abs, one))
        for one in (xs, ys)
    ]
    expected["centre_distance"] = math.dist(*centres)
    squares = sum((x - y) ** 2 for x, y in zip(xs, ys, strict=True))
    whole = math.sqrt((norms[0] ** 2 + norms[1] ** 2) / 2)
    expected["relative_difference"] = math.sqrt(squares) / whole
    expected["explained_by_error"] = sum(variance[voxel] for voxel in voxels) / squares
    assert found == pytest.approx(expected)
