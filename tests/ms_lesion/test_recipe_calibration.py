"""Whether probabilities mean what they say: reliability, its error and its diagram."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from segxai_ms_lesion.recipe.calibration import (
    EDGES,
    Reliability,
    expected_calibration_error,
    reliability,
    together,
)
from segxai_ms_lesion.recipe.diagram import draw_reliability


def literal_error(probability: np.ndarray, lesion: np.ndarray) -> float:
    """Voxel by voxel, as it is defined."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for value, truth in zip(probability, lesion, strict=True):
        number = sum(value >= edge for edge in EDGES[1:-1])
        bins.setdefault(number, []).append((value, truth))
    error = 0.0
    for members in bins.values():
        values, truths = np.array(members).T
        error += len(members) / len(probability) * abs(values.mean() - truths.mean())
    return error


def test_calibration_error_agrees_with_a_loop_over_voxels() -> None:
    random = np.random.default_rng(0)
    probability = np.concatenate([random.random(500), [0.0, 0.01, 0.1, 0.5, 1.0]])
    lesion = random.random(505) < 0.5  # more than expected below, less above
    found = expected_calibration_error(reliability(probability, lesion))
    assert found == pytest.approx(literal_error(probability, lesion), rel=1e-12)
    doubt = probability >= 0.01
    found = expected_calibration_error(reliability(probability, lesion).in_doubt)
    assert found == pytest.approx(literal_error(probability[doubt], lesion[doubt]), rel=1e-12)


def test_a_calibrated_network_has_no_error_and_the_right_volume() -> None:
    probability = np.repeat([0.25, 0.75], 400)
    lesion = np.tile([1, 0, 0, 0], 100).tolist() + np.tile([1, 1, 1, 0], 100).tolist()
    binned = reliability(probability, np.array(lesion) > 0)
    assert expected_calibration_error(binned) == pytest.approx(0, abs=1e-12)
    assert binned.volume_ratio == 1
    np.testing.assert_allclose(binned.points, [[0.25, 0.75], [0.25, 0.75]])


def test_a_network_that_is_too_sure_has_the_error_of_its_excess() -> None:
    binned = reliability(np.full(100, 0.95), np.arange(100) < 60)
    assert expected_calibration_error(binned) == pytest.approx(0.35)
    assert binned.volume_ratio == pytest.approx(95 / 60)


def test_images_add_up() -> None:
    random = np.random.default_rng(1)
    probability, lesion = random.random(300), random.random(300) < 0.3
    whole = reliability(probability, lesion)
    parts = together(
        reliability(probability[part], lesion[part]) for part in np.array_split(np.arange(300), 3)
    )
    np.testing.assert_allclose(parts.voxels, whole.voxels)
    np.testing.assert_allclose(parts.expected, whole.expected)
    np.testing.assert_allclose(parts.lesion, whole.lesion)


def test_nothing_has_no_calibration() -> None:
    nothing = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    assert np.isnan(expected_calibration_error(nothing))
    assert np.isnan(nothing.volume_ratio)


def test_the_diagram_shows_the_groups_that_have_voxels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    groups = {
        name: reliability(random.random(99), random.random(99) < 0.5) for name in ("light", "heavy")
    }
    empty = Reliability(*np.zeros((3, len(EDGES) - 1)))
    draw_reliability({**groups, "healthy": empty}, "a network", tmp_path / "all.png")
    draw_reliability({"healthy": empty}, "a network", tmp_path / "none.png")
    drawn, bare = (imread(tmp_path / f"{name}.png") for name in ("all", "none"))
    assert drawn.shape == bare.shape
    assert (drawn != bare).any(axis=2).mean() > 0.005
