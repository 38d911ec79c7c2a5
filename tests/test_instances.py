"""Instances: components, labels by falling volume, outcomes, masks of the user's own."""

import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.instances import (
    balls,
    chosen,
    components,
    find_instances,
    from_labels,
    structural_uncertainty,
    whole_class,
)
from segxai.types import InstanceCriteria
from tests.networks import block

GRID = Grid.unit((20, 18, 16))
RULE = InstanceCriteria(class_index=1, threshold=0.3, min_volume_mm3=5)


def mask_of(*blocks):
    return np.any([block(GRID.shape, *one).mask(GRID.shape) for one in blocks], axis=0)


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
    with pytest.raises(SegxaiError, match="9, 11; .* 1 to 4"):
        chosen(instances, (2, 9, 11))


def test_the_whole_class_has_label_0():
    mask = mask_of(((1, 1, 1), (3, 3, 3)), ((10, 1, 1), (1, 1, 1)))
    whole = whole_class(mask, RULE)
    assert (whole.label, len(whole.voxels)) == (0, 28)
    with pytest.raises(SegxaiError, match="no voxel"):
        whole_class(np.zeros_like(mask), RULE)


def test_balls_are_numbered_and_may_overlap():
    grid = Grid.unit((12, 12))
    first, second = balls([(4, 4, 3.0), (6, 4, 3.0)], grid, 2)
    assert [(one.label, one.class_index) for one in (first, second)] == [(1, 2), (2, 2)]
    assert (first.mask(grid.shape) & second.mask(grid.shape)).any()
    with pytest.raises(SegxaiError, match="give 2 finite coordinates"):
        balls([(4, 4, 4, 3.0)], grid, 1)


def iou(one, other):
    first, second = (set(map(tuple, voxels.tolist())) for voxels in (one, other))
    return len(first & second) / len(first | second)


def test_structural_uncertainty_is_one_less_the_mean_of_the_best_overlaps():
    found = find_instances(
        mask_of(((2, 2, 2), (4, 3, 3)), ((10, 9, 3), (3, 3, 3)), ((2, 12, 9), (3, 2, 1))),
        GRID,
        RULE,
    )
    members = [
        mask_of(((2, 2, 2), (4, 3, 3))),  # the first as it is, the others missed
        mask_of(((3, 2, 2), (1, 1, 1)), ((5, 3, 3), (3, 3, 3)), ((10, 9, 3), (3, 3, 2))),
        np.zeros(GRID.shape, dtype=bool),
        mask_of(((2, 12, 9), (2, 1, 1))),  # too small for an instance
    ]
    wanted = []
    for one in found:
        best = []
        for mask in members:
            parts = components(mask, GRID, InstanceCriteria())  # the smallest counts, too
            best.append(max((iou(one.voxels, part) for part in parts), default=0.0))
        wanted.append(1 - sum(best) / len(members))
    uncertainty = structural_uncertainty(found, members, GRID, RULE)
    np.testing.assert_allclose(uncertainty, wanted)
    assert 0 < uncertainty[0] < uncertainty[1] < uncertainty[2] < 1
    np.testing.assert_array_equal(structural_uncertainty(found[:1], members[:1], GRID, RULE), [0])
