"""Balls on the command line: explained as they are, stored, gone on with, repeated."""

import numpy as np
import pytest

from segxai import Grid, Instance
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from tests.commandline import segxai
from tests.toy.segxai_toy import SHAPE

RUN = ("run", "--plugin", "toy", "--method", "gradient", "--out", "toy.h5")
BALLS = "sphere:4,4,4,2.5:6,4,4,2.5"


pytestmark = pytest.mark.usefixtures("folder", "toys")


def test_each_ball_is_an_instance_of_its_own(folder):
    assert segxai(*RUN, "--instances", BALLS).status == 0
    with open_result(folder / "toy.h5") as tree:
        found = maps(tree, "gradient-signed_max")
        assert list(found) == [1, 2]
        for label, centre in {1: (4, 4, 4), 2: (6, 4, 4)}.items():
            ball = Instance.sphere(centre, 2.5, Grid.unit(SHAPE))
            domain = found[label]["domain"]
            voxels = np.argwhere(domain.values)
            starts = [int(domain[axis][0]) for axis in domain.dims]
            np.testing.assert_array_equal(voxels + starts, ball.voxels)


def test_they_are_gone_on_with_and_repeated(folder):
    segxai(*RUN, "--instances", BALLS)
    assert "nothing left to do" in segxai(*RUN, "--instances", BALLS).err
    other = segxai(*RUN, "--instances", "sphere:4,4,4,2")
    assert "target instances" in other.error
    assert segxai("rerun", "toy.h5").status == 0


WRONG = {
    "sphere:1,2,x": "give a centre and a radius in mm, sphere:X,Y,Z,R",
    "sphere:1,2,3": "give 3 finite coordinates for this image",
    "sphere:99,99,99,5": "no voxel centre lies within 5 mm of (99, 99, 99) mm; the image reaches",
    "ball:1,2,3,4": "nor a file, nor sphere:X,Y,Z,R",
}


@pytest.mark.parametrize(("text", "words"), WRONG.items())
def test_a_mistake_is_one_line(text, words):
    assert words in segxai(*RUN, "--instances", text).error


def test_a_class_has_no_balls():
    words = ("run", "--plugin", "toy", "--method", "class_smoothgrad", "--instances", BALLS)
    assert "leave out --instances" in segxai(*words).error
    words = (*RUN, "--instances", BALLS, "--split")
    assert "--split" in segxai(*words).error
