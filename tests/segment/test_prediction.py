"""A prediction is one value: whoever runs a model does not ask which kind it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segxai.errors import SegxaiError
from segxai.instances import find_instances
from segxai.pipeline import explain_case, survey
from segxai.run.options import Balls, Options
from segxai.run.prepare import prepare
from segxai.segment.detections import Detections
from segxai.segment.predict import segment
from segxai.segment.predictor import Predictor
from segxai.segment.semantic import Semantic
from segxai.segment.windows import whole_image
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from segxai.store.schema import group, provenance_of
from segxai.types import Instance, InstanceCriteria
from tests.predictions import Around
from tests.toy import segxai_toy as toy
from tests.toy.segxai_toy import Toy

TOY = replace(toy.TOY, origin={"name": "toy", "package": "none", "version": "1"})
CASE = TOY.embedded_case()
ASKED = Options.of(method="gradient", aggregator="mean", device="cpu")


def semantic():
    return Semantic(Predictor(Toy(), whole_image(CASE.grid.shape)), TOY.classes)


def segmented(prediction):
    return segment(prediction.predictor, CASE, prediction.classes)


# ---------------------------------------------------------------------------------------- semantic


def test_instances_of_a_class_are_its_connected_components():
    prediction, reference = semantic(), np.zeros(CASE.grid.shape, dtype=bool)
    reference[4, 4, 4] = reference[19, 0, 0] = True
    criteria = InstanceCriteria(1, 0.5)
    segmentation = segmented(prediction)
    found = prediction.instances(segmentation, criteria, replace(CASE, reference=reference))
    mask = segmentation.mask(1, 0.5)
    wanted = find_instances(mask, CASE.grid, criteria, reference)
    assert [one.outcome for one in found] == ["TP", "FP", "FP", "FP", "FN"]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.voxels, other.voxels)
    assert (prediction.explained(criteria), prediction.class_logit(criteria)) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_volume_mm3": 9999.0}, "no instance found: the largest piece of ball has .* mm3"),
        ({"threshold": 0.99999}, "no instance found: the largest probability of ball is 0.9"),
    ],
)
def test_where_no_instance_is_found_it_is_said_why(changes, words):
    prediction = semantic()
    with pytest.raises(SegxaiError, match=words):
        prediction.instances(segmented(prediction), replace(TOY.criteria, **changes), CASE)


def test_a_semantic_model_without_a_class_of_its_own_asks_for_one():
    adapter = replace(TOY, criteria=replace(TOY.criteria, class_index=None))
    with pytest.raises(SegxaiError, match="explains one class: name it with class_name"):
        survey(prepare(adapter, CASE, ASKED))
    named = replace(ASKED, target=replace(ASKED.target, class_name="ball"))
    found = survey(prepare(adapter, CASE, named)).instances
    assert {one.class_index for one in found} == {1}


# -------------------------------------------------------------------------------------- detections


def detect(network, case, criteria):
    """Three of the balls, as a detector finds them."""
    predictor = Predictor(network, whole_image(case.grid.shape), activation="sigmoid")
    domains = [np.argwhere(one.mask(case.grid.shape)) for one in BALLS]
    return Detections(predictor, ("ball", "rest", "ball"), (0.9, 0.8, 0.7), tuple(domains))


class ThreeLogits(Toy):
    def forward(self, image):
        logits = super().forward(image)
        return torch.cat([logits[:, 1:]] * 3, dim=1)


BALLS = [
    Instance.sphere(centre, radius, CASE.grid)
    for centre, radius in (((4, 4, 4), 2.3), ((13, 5, 6), 2.1), ((5, 12, 9), 1.8))
]
DETECTOR = replace(
    TOY, predict=detect, load_network=ThreeLogits, criteria=InstanceCriteria(None, 0.5)
)


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ({}, [1, 2, 3]),
        ({"class_name": "ball"}, [1, 3]),
        ({"class_index": 0}, [2]),
        ({"class_name": "ball", "min_volume_mm3": float(len(BALLS[0].voxels))}, [1]),
    ],
)
def test_detections_of_all_classes_are_explained_unless_one_is_named(asked, labels):
    task = prepare(DETECTOR, CASE, Options.of(method="gradient", device="cpu", **asked))
    found = survey(task)
    assert [one.label for one in found.instances] == labels
    assert [one.class_index for one in found.instances] == [label - 1 for label in labels]
    assert found.segmentation.classes == ("ball 1", "rest 2", "ball 3")
    wanted = {0: "rest", 1: "ball"}.get(task.criteria.class_index)
    assert task.case_provenance["target"]["class"] == wanted


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"class_name": "ball", "min_volume_mm3": 999.0}, "no ball of 999 mm3 or more detected"),
        ({"min_volume_mm3": 999.0}, "no object of 999 mm3 or more .* found: ball, rest"),
    ],
)
def test_where_nothing_was_detected_it_is_said_what_was(asked, words):
    task = prepare(DETECTOR, CASE, Options.of(method="gradient", device="cpu", **asked))
    with pytest.raises(SegxaiError, match=words):
        survey(task)


@pytest.mark.parametrize(
    "asked", [{"method": "class_smoothgrad"}, {"instances": Balls(((4, 4, 4, 2),))}]
)
def test_detections_have_no_logit_of_a_class(asked):
    with pytest.raises(SegxaiError, match="need a logit for each class and pixel"):
        prepare(DETECTOR, CASE, Options.of(**{"method": "gradient", "device": "cpu", **asked}))


def test_no_detections_are_refused():
    with pytest.raises(SegxaiError, match="detects nothing"):
        Detections(semantic().predictor, (), (), ())


# ------------------------------------------------------------------------------------- a third kind


class Slabs(Around):
    """A stranger's own kind: what the class covers in each half of the volume."""

    def instances(self, segmentation, criteria, case):
        mask = segmentation.mask(1, 0.5)
        left = np.arange(mask.shape[0])[:, None, None] < 10
        return [Instance.from_mask(mask & left), Instance.from_mask(mask & ~left, label=2)]


def test_a_third_kind_of_prediction_needs_no_change_elsewhere(folder):
    adapter = replace(TOY, predict=lambda network, case, criteria: Slabs(semantic()))
    task = prepare(adapter, CASE, ASKED)
    assert explain_case(task, Path("r.h5")) == ("gradient-mean",)
    with open_result("r.h5") as tree:
        assert list(maps(tree, "gradient-mean")) == [1, 2]
        assert provenance_of(group(tree, "/"))["target"]["class"] == "ball"
