"""Checks of detections: they lie where they are said to, and are frozen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segxai import Predictor, whole_image
from segxai.segment.detections import Detections
from tests.testing.checks import DETECTIONS, LAST, LOADS, PLACES, PLAIN, WINDOWS, broken, findings
from tests.toy.segxai_toy import TOY, Toy, picture


class Queries(Toy):
    """Two detections: balls on the left, balls on the right."""

    def forward(self, image):
        made = super().forward(image)[:, 1:]
        left = torch.arange(made.shape[2])[:, None, None] < made.shape[2] / 2
        return torch.cat([torch.where(left, made, -5.0), torch.where(left, -5.0, made)], dim=1)


def detector(change=lambda found, network: found, network=Queries):
    def detect(network, case, criteria):
        predictor = Predictor(network, whole_image(case.grid.shape), activation="sigmoid")
        masks = predictor(torch.from_numpy(case.image)[None])[0] > 0
        domains = tuple(np.argwhere(mask.numpy()) for mask in masks)
        return change(Detections(predictor, ("ball",) * 2, (0.9, 0.8), domains), network)

    return replace(TOY, predict=detect, load_network=network)


def test_an_honest_detector_keeps_every_promise():
    found = findings(detector())
    assert list(found) == [*PLAIN, WINDOWS, PLACES, DETECTIONS, *LAST]
    assert all(finding.holds for finding in found.values()), found
    assert found[DETECTIONS].detail == "2, 100 % of their voxels positive"


class Swapping(Queries):
    """Detections in the order of their mean logit, as models sort them by confidence."""

    def forward(self, image):
        made = super().forward(image)
        return made if abs(float(image.sum()) - float(picture().sum())) < 1e-3 else made.flip(1)


class Losing(Swapping):
    def forward(self, image):
        made = Queries.forward(self, image)
        swapped = Swapping.forward(self, image)
        return made if torch.equal(made, swapped) else made[:, :1]


DETECTORS = {
    "swapped channels": (
        detector(lambda found, network: replace(found, domains=found.domains[::-1])),
        "ball 1: its logits are not positive in its own domain",
    ),
    "not frozen": (
        detector(network=Swapping),
        "on a noisy image detections change places: freeze their identity on the clean image",
    ),
    "not as many": (
        detector(network=Losing),
        "on a noisy image the logits are (1, 20, 18, 16), not (2, 20, 18, 16)",
    ),
    "another class": (
        detector(lambda found, network: replace(found, names=("ball", "cube"))),
        "'cube' is not among the adapter's classes",
    ),
    "lengths": (
        detector(lambda found, network: replace(found, scores=(0.5,))),
        "names, scores and domains differ in length",
    ),
    "an empty domain": (
        detector(
            lambda found, network: replace(
                found, domains=(found.domains[0], np.zeros((0, 3), dtype=np.int64))
            )
        ),
        "ball 2: its domain is empty, or outside of the logits",
    ),
    "outside": (
        detector(
            lambda found, network: replace(found, domains=tuple(9 * one for one in found.domains))
        ),
        "ball 1: its domain is empty, or outside of the logits",
    ),
}


@pytest.mark.parametrize(("adapter", "words"), DETECTORS.values(), ids=DETECTORS)
def test_a_detector_that_lies_is_caught(adapter, words):
    assert words in broken(adapter)[DETECTIONS]


def test_a_detector_that_finds_nothing_says_so():
    nothing = detector(lambda found, network: replace(found, names=(), scores=(), domains=()))
    wrong = broken(nothing)
    assert wrong == {LOADS: "the model detects nothing in this image"}
