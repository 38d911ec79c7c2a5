"""Models of pictures, semantic, of queries and of boxes: each method is Captum's own on them."""

import captum.attr
import pytest
import torch
from segxai_natural_image import boxes, weights_files
from torchvision.models import detection

from tests import literal
from tests.captum_plugin.subjects import Subject
from tests.natural_image import models as natural

SMALL = 64  # pixels of the shorter side, where torchvision's own sizes would take minutes


def made(kind, folder):
    """A model of this kind with random weights, and the options under which it finds something."""
    if kind == "boxes":
        build = detection.maskrcnn_resnet50_fpn
        return natural.vision(build, folder / "rcnn.pth"), {"labels": (1,), "threshold": 0.565}
    if kind == "queries":
        return natural.mask2former(folder / "queries", 2), {}
    return natural.segformer(folder / "semantic"), {}


@pytest.mark.parametrize("kind", ["semantic", "queries", "boxes"])
def test_pictures_are_explained_as_captum_does(kind, tmp_path, monkeypatch):
    for module in (weights_files, boxes):
        monkeypatch.setattr(module, "SHORTER", SMALL)
    photo = natural.picture(tmp_path / "photo.png")
    checkpoint, asked = made(kind, tmp_path)
    task, findings = natural.explain(checkpoint, photo, **asked)
    image = torch.from_numpy(task.case.image)[None]
    subject = Subject(task.predictor, image, findings.explained[0], task.case)
    found, _ = subject.explain("input_x_gradient")
    theirs = captum.attr.InputXGradient(subject.score())
    wanted = theirs.attribute(image.clone().requires_grad_())[0].detach()
    assert literal.worst(found, wanted) < 1e-5
    patch = (3, 40, 40)
    found, attribution = subject.explain(
        "occlusion", patch="40", channels="together", baseline="healthy"
    )
    levels = torch.tensor(attribution.facts["baseline_values"]).reshape(1, 3, 1, 1)
    wanted = captum.attr.Occlusion(subject.score()).attribute(
        image, patch, patch, baselines=levels.expand_as(image)
    )[0]
    assert literal.worst(found, wanted) < 1e-5
