"""The kit sees a reference that is refused or ignored."""

from dataclasses import replace

import numpy as np

from segxai.geometry import Box, Grid
from segxai.segment.semantic import Semantic
from tests.predictions import Around
from tests.testing.checks import REFERENCE, broken, findings
from tests.testing.test_instances import detector
from tests.toy.segxai_toy import TOY

PART = Box((2, 2, 2), (16, 14, 12))


def cropping(*, tells):
    """An adapter that crops the image, and perhaps says from what."""

    def load_case(files):
        case = TOY.load_case(files)
        affine = case.grid.affine.copy()
        affine[:3, 3] = case.grid.to_mm(np.array(PART.start, dtype=float))
        return replace(
            case,
            image=case.image[PART.index],
            grid=Grid(PART.size, affine),
            foreground=case.foreground[PART.index],
            source_grid=case.grid if tells else None,
        )

    return replace(TOY, load_case=load_case)


def test_a_case_that_does_not_say_what_its_files_are_refuses_references():
    found = findings(cropping(tells=True))[REFERENCE]
    assert (found.holds, found.detail[:14]) == (True, "it can be read")
    words = broken(cropping(tells=False))[REFERENCE]
    assert words.startswith("a reference on the grid of the files is refused: ")


class Ignoring(Around):
    """A stranger's own prediction, which never looks at the reference."""

    def instances(self, segmentation, criteria, case):
        return self.inner.instances(segmentation, criteria, replace(case, reference=None))


def test_a_prediction_that_ignores_the_reference_is_caught():
    def predict(network, case, criteria):
        return Ignoring(Semantic(TOY.predict(network, case, criteria), TOY.classes))

    assert broken(replace(TOY, predict=predict)) == {
        REFERENCE: "instance 1 is without an outcome, not TP, if instance 1 alone was drawn"
    }


def test_detections_get_outcomes():
    found = findings(detector())[REFERENCE]
    assert (found.holds, found.detail) == (
        True,
        "it can be read; outcomes of 2 instances follow it",
    )
