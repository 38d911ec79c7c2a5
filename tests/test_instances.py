"""Instances: components, labels by falling volume, outcomes, masks of the user's own."""

import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Box, Grid
from segxai.instances import chosen, components, find_instances, from_labels, whole_class
from segxai.segment.segmentation import Segmentation
from segxai.types import Instance, InstanceCriteria
from tests.networks import block

GRID = Grid.unit((20, 18, 16))
RULE = InstanceCriteria(class_index=1, threshold=0.3, min_volume_mm3=5)


def mask_of(*blocks):
    mask = np.zeros(GRID.shape, dtype=bool)
    for start, size in blocks:
        mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


@pytest.mark.parametrize(("field", "value"), [("threshold", 1.5), ("min_volume_mm3", -1.0)])
def test_criteria_that_nothing_can_meet_are_refused(field, value):
    with pytest.raises(SegxaiError, match=f"{value:g}"):
        InstanceCriteria(**{field: value})


def test_labels_fall_with_the_volume():
    found = find_instances(
        mask_of(((1, 1, 1), (2, 2, 2)), ((10, 1, 1), (3, 3, 3)), ((1, 10, 1), (5, 1, 1))),
        GRID,
        RULE,
    )
    assert [(one.label, len(one.voxels), one.outcome) for one in found] == [
        (1, 27, ""),
        (2, 8, ""),
        (3, 5, ""),
    ]


def test_equal_volumes_keep_the_order_of_their_first_voxels():
    found = find_instances(mask_of(((12, 1, 1), (2, 2, 2)), ((1, 12, 1), (2, 2, 2))), GRID, RULE)
    assert [tuple(one.voxels[0]) for one in found] == [(1, 12, 1), (12, 1, 1)]


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


def test_volumes_are_in_mm3_and_the_smallest_is_kept():
    fine = Grid(GRID.shape, np.diag([0.5, 0.5, 2.0, 1.0]))  # 0.5 mm3 a voxel
    mask = mask_of(((1, 1, 1), (10, 1, 1)), ((1, 10, 1), (9, 1, 1)))
    assert [len(one.voxels) for one in find_instances(mask, fine, RULE)] == [10]
    almost = Grid(GRID.shape, np.diag([1.0, 1.0, 0.9999999, 1.0]))
    assert find_instances(mask_of(((1, 1, 1), (5, 1, 1))), almost, RULE)


@pytest.mark.parametrize(
    ("second", "together"), [((4, 4, 5), True), ((4, 5, 5), True), ((5, 5, 5), False)]
)
def test_neighbours_share_a_face_or_an_edge_but_not_a_corner(second, together):
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = mask[second] = True
    found = components(mask, Grid.unit(mask.shape), InstanceCriteria(connectivity=2))
    assert len(found) == (1 if together else 2)


def test_outcomes_against_a_reference():
    mask = mask_of(((1, 1, 1), (3, 3, 3)), ((10, 1, 1), (2, 2, 2)))
    reference = np.zeros(GRID.shape, dtype=bool)
    reference[3, 3, 3:9] = True  # touches the first by one voxel
    reference[1:3, 12:14, 1:4] = True  # 12 voxels, missed
    reference[15:17, 12:14, 1:4] = True  # 12 voxels, missed
    reference[10:14, 12, 12] = True  # 4 voxels, too small to count
    found = find_instances(mask, GRID, RULE, reference)
    assert [(one.label, one.outcome, len(one.voxels)) for one in found] == [
        (1, "TP", 27),
        (2, "FP", 8),
        (3, "FN", 12),
        (4, "FN", 12),
    ]


def test_a_prediction_too_small_to_be_an_instance_detects_nothing():
    mask = mask_of(((1, 1, 1), (2, 2, 1)))
    reference = np.zeros(GRID.shape, dtype=bool)
    reference[1:4, 1:4, 1:4] = True
    assert [one.outcome for one in find_instances(mask, GRID, RULE, reference)] == ["FN"]


def test_labels_of_a_mask_are_kept_whole_with_their_numbers_and_no_minimum():
    labels = np.zeros(GRID.shape, dtype=np.int32)
    labels[1, 1, 1] = labels[8, 8, 8] = 7
    labels[2, 2, 2] = 3
    found = from_labels(labels, 1, split=False, grid=GRID)
    assert [(one.label, len(one.voxels)) for one in found] == [(3, 1), (7, 2)]
    parts = from_labels(labels, 1, split=True, grid=GRID)
    # (1, 1, 1) and (2, 2, 2) share a corner only: three parts.
    assert [(one.label, len(one.voxels)) for one in parts] == [(1, 1), (2, 1), (3, 1)]


def test_an_empty_mask_is_refused():
    with pytest.raises(SegxaiError, match="the mask of instances is empty"):
        from_labels(np.zeros((3, 3), dtype=np.int32), 1, split=False, grid=Grid.unit((3, 3)))


def test_chosen_labels_keep_the_order_of_the_case():
    instances = [block((9, 9), (k, k), (1, 1), label=k) for k in (1, 2, 3, 4)]
    assert [one.label for one in chosen(instances, (4, 2))] == [2, 4]
    with pytest.raises(SegxaiError, match="no instance 9, 11; this case has 1 to 4"):
        chosen(instances, (2, 9, 11))


def test_the_whole_class_has_label_0():
    mask = mask_of(((1, 1, 1), (3, 3, 3)), ((10, 1, 1), (1, 1, 1)))
    whole = whole_class(mask, RULE)
    assert (whole.label, len(whole.voxels)) == (0, 28)
    with pytest.raises(SegxaiError, match="no voxel of the class is predicted"):
        whole_class(np.zeros_like(mask), RULE)


def test_boxes_cut_and_count():
    box = Box((-2, 3), (5, 4))
    assert box.inside((10, 5)) == Box((0, 3), (3, 2))
    assert Box((0, 3), (3, 2)).seen_from(box) == Box((2, 0), (3, 2))
    assert Box.spanning([Box((1, 1), (2, 2)), Box((4, 0), (1, 2))]) == Box((1, 0), (4, 3))
    array = np.arange(50).reshape(10, 5)
    voxels = np.array([[0, 3], [2, 4]])
    inside = box.inside((10, 5))
    assert array[inside.index].ravel()[inside.flat(voxels)].tolist() == [3, 14]
    assert box.contains(np.array([[0, 3], [3, 3], [-2, 6]])).tolist() == [True, False, True]


def test_an_instance_seen_from_a_crop():
    instance = block((9, 9), (4, 5), (2, 2), label=4, outcome="TP")
    inner = instance.seen_from(Box((3, 3), (5, 5)))
    assert inner.voxels.tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert (inner.label, inner.outcome) == (4, "TP")
    assert Instance.from_mask(inner.mask((5, 5))).voxels.tolist() == inner.voxels.tolist()
