"""Boxes on a grid."""

import numpy as np
import pytest

from segxai.geometry import Box, Grid


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


def test_a_box_grows_by_a_distance_in_mm_up_to_the_border_of_the_grid():
    grid = Grid((20, 20), np.diag([1.0, 2.0, 1.0]))
    box = Box((5, 5), (2, 3))
    assert box.grown(3.0, grid) == Box((2, 3), (8, 7))  # 3 voxels of 1 mm, 2 of 2 mm
    assert box.grown(10.0, grid) == Box((0, 0), (17, 13))


def crop_of(grid, start, shape):
    affine = grid.affine.copy()
    affine[:-1, -1] = grid.to_mm(np.array(start, dtype=float))
    return Grid(shape, affine)


@pytest.mark.parametrize("start", [(0, 0, 0), (3, -2, 5)])
def test_a_crop_has_its_place_on_the_whole(start):
    turn = np.array([[0, -1.5, 0.2, 4], [2, 0, 0, -7], [0, 0.3, 3, 1], [0, 0, 0, 1]])
    whole = Grid((20, 18, 16), turn)
    crop = crop_of(whole, start, (9, 8, 7))
    assert crop.place_on(whole) == start
    assert whole.place_on(crop) == tuple(-n for n in start)


@pytest.mark.parametrize(
    "other",
    [
        Grid((9, 8, 7), np.diag([1.0, 1, 1.1, 1])),  # other spacing
        Grid((9, 8, 7), np.diag([-1.0, 1, 1, 1])),  # flipped
        Grid((9, 8, 7), np.eye(4) + 0.5 * np.eye(4, k=3)),  # between voxels
        Grid((9, 8), np.eye(3)),
    ],
)
def test_other_voxels_have_no_place(other):
    assert other.place_on(Grid.unit((20, 18, 16))) is None


def test_rounding_in_a_header_moves_no_voxel():
    moved = np.eye(4)
    moved[0, 3] = 2.04
    assert Grid((9, 8, 7), moved).place_on(Grid.unit((20, 18, 16))) == (2, 0, 0)
