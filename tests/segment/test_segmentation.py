"""Logits become probabilities and masks."""

import numpy as np

from segxai.segment.segmentation import Segmentation


def test_the_threshold_is_exceeded_and_not_reached():
    logits = np.log(np.array([[[0.7, 0.6]], [[0.3, 0.4]]]))
    found = Segmentation.of(logits, ("background", "lesion"))
    assert found.mask(1, float(found.probability(1)[0, 0])).tolist() == [[False, True]]


def test_without_a_threshold_the_largest_logit_wins():
    logits = np.array([[[0.1, 3.0]], [[0.2, 2.0]], [[-1.0, 2.5]]])
    found = Segmentation.of(logits, ("sky", "car", "road"))
    assert [found.mask(index, None).tolist() for index in range(3)] == [
        [[False, True]],
        [[True, False]],
        [[False, False]],
    ]


def test_logits_that_stand_for_themselves_win_where_they_are_positive():
    logits = np.array([[[0.1, -3.0]], [[0.2, 2.0]]])
    found = Segmentation.of(logits, ("lesion", "oedema"), "sigmoid")
    assert found.mask(0, None).tolist() == [[True, False]]
    for index in range(2):
        wanted = 1 / (1 + np.exp(-logits[index]))
        np.testing.assert_allclose(found.probability(index), wanted, rtol=1e-6)
    single = Segmentation.of(logits[:1], ("lesion",))
    assert single.mask(0, None).tolist() == [[True, False]]


def test_the_entropy_is_that_of_the_softmax_over_all_classes_kept_or_not():
    logits = np.random.default_rng(0).normal(scale=5, size=(4, 3, 2))
    found = Segmentation.of(logits, ("a", "b", "c", "d"), kept=(2,))
    probability = np.exp(logits) / np.exp(logits).sum(axis=0)
    wanted = -(probability * np.log(probability)).sum(axis=0)
    np.testing.assert_allclose(found.entropy, wanted, atol=1e-6)
    parts = [Segmentation.of(logits[:, k : k + 1], found.classes, kept=(2,)) for k in range(3)]
    np.testing.assert_array_equal(Segmentation.joined(parts).entropy, found.entropy)
