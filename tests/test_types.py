"""Instances: spheres by closed forms on grids of any spacing and orientation, and crops."""

import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Box, Grid
from segxai.types import Instance
from tests.networks import block


def grid_of(shape, spacing, origin=None):
    affine = np.diag([*spacing, 1.0])
    affine[:-1, -1] = -np.array(shape) * spacing / 2 if origin is None else origin
    return Grid(shape, affine)


FINE = {
    "ball": ((81, 81, 81), (0.5, 0.5, 0.5), 4 / 3 * np.pi * 15**3),
    "ball, anisotropic": ((81, 160, 41), (0.5, 0.25, 1.0), 4 / 3 * np.pi * 15**3),
    "disc": ((300, 300), (0.12, 0.12), np.pi * 15**2),
    "stretch": ((3001,), (0.02,), 2 * 15),
}


@pytest.mark.parametrize(("shape", "spacing", "volume_mm3"), FINE.values(), ids=FINE)
def test_the_volume_tends_to_that_of_the_ball(shape, spacing, volume_mm3):
    grid = grid_of(shape, spacing)
    centre = np.full(len(shape), 0.1)
    found = Instance.sphere(centre, 15, grid)
    assert len(found.voxels) * grid.voxel_volume_mm3 == pytest.approx(volume_mm3, rel=3e-3)


def tilted():
    """A grid that is turned, flipped and of three spacings."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.8, -1.3, 2.1])
    affine[:3, 3] = (11, -7, 3)
    return Grid((22, 17, 12), affine)


@pytest.mark.parametrize("radius", [0.0, 1.0, 4.3, 9.0, 100.0])
@pytest.mark.parametrize("voxel", [(11, 8, 6), (0, 3, 11), (20.5, 8.2, 3.9)])
def test_it_is_all_voxels_that_are_near_enough(radius, voxel):
    grid = tilted()
    centre = grid.to_mm(np.array(voxel, dtype=float))
    wanted = [
        place
        for place in np.ndindex(*grid.shape)
        if np.linalg.norm(grid.to_mm(np.array(place, dtype=float)) - centre) <= radius + 1e-9
    ]
    if wanted:
        found = Instance.sphere(centre, radius, grid)
        np.testing.assert_array_equal(found.voxels, wanted)  # in C order, too
    else:
        with pytest.raises(SegxaiError, match=f"no voxel centre lies within {radius:g} mm"):
            Instance.sphere(centre, radius, grid)


def test_what_is_outside_of_the_image_is_cut_off():
    grid = grid_of((41, 41, 41), (1, 1, 1), origin=(0, 0, 0))
    whole = len(Instance.sphere((20, 20, 20), 10, grid).voxels)
    disc = len(Instance.sphere((20, 20), 10, grid_of((41, 41), (1, 1), origin=(0, 0))).voxels)
    half = Instance.sphere((0, 20, 20), 10, grid)
    assert len(half.voxels) == (whole + disc) / 2  # the plane through the centre is in both halves
    assert half.voxels.min() == 0
    beyond = Instance.sphere((-5, 20, 20), 10, grid)
    assert 0 < len(beyond.voxels) < len(half.voxels)


def test_a_point_on_the_surface_is_inside():
    grid = grid_of((5, 5, 5), (0.1, 0.1, 0.1), origin=(0, 0, 0))
    assert len(Instance.sphere((0.2, 0.2, 0.2), 0.1, grid).voxels) == 7
    assert len(Instance.sphere((0.2, 0.2, 0.2), 0.0, grid).voxels) == 1


def test_label_and_class_are_kept():
    found = Instance.sphere((0, 0), 3, Grid.unit((9, 9)), label=4, class_index=2)
    assert (found.label, found.class_index, found.outcome) == (4, 2, "")


WRONG = {
    "outside": (
        (500, 0, 0),
        5.0,
        r"no voxel centre lies within 5 mm of \(500, 0, 0\) mm; the image reaches from \(0, 0, 0\) "
        r"to \(9, 18, 27\) mm",
    ),
    "between voxels": ((0.5, 1, 1.5), 0.1, "no voxel centre lies within 0.1 mm"),
    "axes": ((0, 0), 5.0, r"a sphere at \(0, 0\) mm of radius 5 mm: give 3 finite coordinates"),
    "not a number": ((0, np.nan, 0), 5.0, r"a sphere at \(0, nan, 0\) mm"),
    "endless": ((0, 0, 0), np.inf, "of radius inf mm: give 3 finite"),
    "negative": ((0, 0, 0), -1.0, "and a radius of 0 or more"),
}


@pytest.mark.parametrize(("centre", "radius", "words"), WRONG.values(), ids=WRONG)
def test_a_sphere_that_cannot_be_is_refused(centre, radius, words):
    grid = Grid((10, 10, 10), np.diag([1.0, 2, 3, 1]))
    with pytest.raises(SegxaiError, match=words):
        Instance.sphere(centre, radius, grid)


# ------------------------------------------------------------------------------ seen from elsewhere


def test_an_instance_seen_from_a_crop():
    instance = block((9, 9), (4, 5), (2, 2), label=4, outcome="TP")
    inner = instance.seen_from(Box((3, 3), (5, 5)))
    assert inner.voxels.tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert (inner.label, inner.outcome) == (4, "TP")
    assert Instance.from_mask(inner.mask((5, 5))).voxels.tolist() == inner.voxels.tolist()


# ------------------------------------------------------------------------------ a set of voxels


@pytest.mark.parametrize("voxels", [[[1, 2], [1, 2]], [[4, 0], [1, 2], [0, 3], [1, 2]]])
def test_a_voxel_that_is_listed_twice_is_refused(voxels):
    with pytest.raises(SegxaiError, match=r"instance 3 lists the voxel \(1, 2\) more than once"):
        Instance(3, np.array(voxels))


def test_voxels_in_any_order_are_kept_as_they_are():
    voxels = np.array([[4, 0], [1, 2], [0, 3]])
    assert Instance(3, voxels).voxels is voxels


def test_an_instance_must_lie_on_the_grid():
    mask = np.zeros((6, 5), dtype=bool)
    mask[5, 2] = True
    instance = Instance.from_mask(mask, label=7)
    for target in (mask, instance):
        assert Instance.of(target, (6, 5)).voxels.tolist() == [[5, 2]]
    with pytest.raises(
        SegxaiError, match="mask has 6 x 5 voxels, but the model's output has 8 x 8"
    ):
        Instance.of(mask, (8, 8))
    for shape in ((5, 5), (6, 2), (6, 5, 4)):
        with pytest.raises(SegxaiError, match="instance 7 has voxels on a grid of at least 6 x 3"):
            Instance.of(instance, shape)
    with pytest.raises(SegxaiError, match="instance 1 has voxels on a grid of at least 2 x 0"):
        Instance.of(Instance(1, np.array([[1, -1]])), (8, 8))
