"""Boxes on a grid."""

import numpy as np

from segxai.geometry import Box


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
