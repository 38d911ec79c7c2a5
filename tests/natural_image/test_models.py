"""Models of transformers and torchvision: each map against the model's own forward, row by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from segxai_natural_image import boxes, surest, weights_files
from segxai_natural_image.extras import quiet
from torch.nn import functional
from torchvision.models import detection, segmentation
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes
from torchvision.transforms._presets import SemanticSegmentation
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.rows.instance_score import InstanceScore
from segxai.store import schema
from tests import literal
from tests.commandline import segxai
from tests.natural_image import models as natural
from tests.natural_image.models import PICTURE

WITHIN = 1e-5  # of the peak
BLACK = (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)  # normalised as ImageNet's pictures are
SMALL = 64  # pixels of the shorter side, where torchvision's own sizes would take minutes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder for models, each made once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def photo(home):
    return natural.picture(home / "photo.png")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(weights_files, "SHORTER", SMALL)
    monkeypatch.setattr(boxes, "SHORTER", SMALL)


def made(home, name, *arguments):
    path = home / name
    return path if path.exists() else getattr(natural, name)(path, *arguments)


def image_of(task):
    return torch.from_numpy(task.case.image)[None]


def assert_rows(task, findings, logits, instance=None):
    """The maps of an instance are those of literal rows of its voxels."""
    whole = instance or findings.explained[0]
    instance = replace(whole, voxels=whole.row_voxels, sampled=None)
    assert len(instance.voxels) in (2, 3)
    rows = literal.rows(logits, image_of(task), instance.voxels, instance.class_index)
    assert rows.abs().max() > 0
    mean = natural.map_of(task, findings, instance, "mean")
    assert literal.worst(mean, literal.mean(rows)) < WITHIN
    found = natural.map_of(task, findings, instance, "signed_max")
    wanted, ties = literal.signed_max(rows), literal.ties(rows)
    assert ties.float().mean() < 0.1
    assert literal.worst(torch.where(ties, 0, found), torch.where(ties, 0, wanted)) < WITHIN


def assert_places(task):
    """Domains live on the picture, maps on the input, and both have the same corners."""
    case = task.case
    assert case.domain_grid is case.source_grid
    np.testing.assert_array_equal(case.source_grid.affine, Grid.unit(PICTURE).affine)
    ends = np.array([[-0.5, -0.5], np.array(case.grid.shape) - 0.5])
    np.testing.assert_allclose(case.grid.to_mm(ends), [[-0.5, -0.5], np.array(PICTURE) - 0.5])


# ----------------------------------------------------------------------- semantic, of transformers


@pytest.mark.parametrize(
    ("name", "seed", "class_name", "coarse"),
    [
        ("segformer", 4, "car", (16, 24)),
        ("upernet", 2, "person", (8, 16)),  # interpolates its logits itself, as the next
        ("dpt", 3, "person", (32, 32)),
    ],
)
def test_a_semantic_model(home, photo, name, seed, class_name, coarse):
    checkpoint = made(home, name, seed)
    task, findings = natural.explain(checkpoint, photo, class_name=class_name, rows=3)
    assert_places(task)
    assert task.predictor.readout.coarse_shape == coarse
    with quiet():
        model = AutoModelForSemanticSegmentation.from_pretrained(checkpoint).eval()

    def logits(image):
        return functional.interpolate(
            model(pixel_values=image).logits, size=PICTURE, mode="bilinear", align_corners=False
        )

    with torch.no_grad():
        wanted = logits(image_of(task))[0]
    assert literal.worst(findings.segmentation.logits, wanted) < WITHIN
    assert_rows(task, findings, logits)


@pytest.mark.parametrize(
    ("name", "seed", "black"),
    [("segformer", 4, BLACK), ("dpt", 3, (-1, -1, -1)), ("mask2former", 2, BLACK)],
)
def test_a_picture_is_fed_as_the_models_own_processor_does(home, photo, name, seed, black):
    task, _ = natural.explain(made(home, name, seed), photo, rows=3)
    processor = AutoImageProcessor.from_pretrained(home / name)
    wanted = processor(images=Image.open(photo), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(task.case.image, wanted)
    np.testing.assert_allclose(task.case.black, black, atol=1e-6)
    assert task.case.channels == ("red", "green", "blue")
    assert task.case.input_unit == "standard deviation"


def test_the_prediction_is_that_of_the_models_own_processor(home, photo):
    task, findings = natural.explain(made(home, "segformer", 4), photo, class_name="car", rows=3)
    with quiet(), torch.no_grad():
        model = AutoModelForSemanticSegmentation.from_pretrained(home / "segformer")
        output = model(pixel_values=image_of(task))
    processor = AutoImageProcessor.from_pretrained(home / "segformer")
    (wanted,) = processor.post_process_semantic_segmentation(output, target_sizes=[PICTURE])
    found = findings.segmentation.logits.argmax(axis=0)
    assert (found == wanted.numpy()).mean() > 0.999  # rounding may turn a pixel on a border


# ------------------------------------------------------------------------ semantic, of torchvision


@pytest.mark.parametrize(
    ("build", "index"),
    [
        (segmentation.lraspp_mobilenet_v3_large, 0),
        (segmentation.deeplabv3_mobilenet_v3_large, 2),
        (segmentation.fcn_resnet50, 1),
    ],
    ids=["lraspp", "deeplabv3", "fcn"],
)
def test_a_model_of_torchvision(tmp_path, photo, small, build, index):
    checkpoint = natural.vision(build, tmp_path / "weights.pth")
    task, findings = natural.explain(checkpoint, photo, class_index=index, rows=3)
    assert_places(task)
    assert build.__name__ in task.notes[0]
    model = build(weights=None, weights_backbone=None, num_classes=3).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])

    def logits(image):
        return functional.interpolate(model(image)["out"], size=PICTURE, mode="bilinear")

    pixels = torch.from_numpy(np.moveaxis(np.asarray(Image.open(photo)), -1, 0).copy())
    wanted = SemanticSegmentation(resize_size=SMALL)(pixels)
    np.testing.assert_array_equal(task.case.image, wanted.numpy())
    np.testing.assert_allclose(task.case.black, BLACK, atol=1e-6)
    assert max(task.predictor.readout.coarse_shape) < max(task.case.grid.shape) / 4
    with torch.no_grad():
        whole = logits(image_of(task))[0]
    assert literal.worst(findings.segmentation.logits, whole) < WITHIN
    assert_rows(task, findings, logits)


# ----------------------------------------------------------------------------------------- queries


def query_logits(model, kind):
    """Mask logits as `post_process_instance_segmentation` brings them to the picture."""

    def logits(image):
        masks = model(pixel_values=image).masks_queries_logits
        if kind == "mask2former":
            masks = functional.interpolate(masks, (384, 384), mode="bilinear", align_corners=False)
        return functional.interpolate(masks, PICTURE, mode="nearest")

    return logits


def query_model(folder):
    with quiet():
        return AutoModelForUniversalSegmentation.from_pretrained(folder).eval()


@pytest.mark.parametrize(("kind", "seed"), [("mask2former", 2), ("maskformer", 3)])
def test_the_instances_of_queries(home, photo, kind, seed):
    task, findings = natural.explain(made(home, kind, seed), photo, rows=3)
    assert_places(task)
    model, found = query_model(home / kind), task.prediction
    with torch.no_grad():
        output = model(pixel_values=image_of(task))
    processor = AutoImageProcessor.from_pretrained(home / kind)
    (wanted,) = processor.post_process_instance_segmentation(
        output, target_sizes=[PICTURE], return_binary_maps=True
    )
    info = sorted(wanted["segments_info"], key=lambda one: -one["score"])
    assert len(info) > 1
    assert [natural.LABELS[one["label_id"]] for one in info] == list(found.names)
    assert found.scores == pytest.approx([one["score"] for one in info], abs=1e-5)
    masks = wanted["segmentation"][[one["id"] for one in info]].numpy() > 0
    for mask, instance in zip(masks, findings.instances, strict=True):
        np.testing.assert_array_equal(instance.mask(PICTURE), mask)
    every = query_logits(model, kind)
    queries = found.predictor.network.numbers
    for instance in findings.explained:
        assert_rows(task, findings, lambda image: every(image)[:, queries], instance)


@pytest.mark.parametrize("score", ["margin", "probability"])
def test_the_probability_of_a_query_is_its_own(home, photo, score):
    """It is the sigmoid of its own mask logit: queries do not compete."""
    folder = made(home, "mask2former", 2)
    task, findings = natural.explain(folder, photo, rows=3, labels=(1,), score=score)
    model, queries = query_model(folder), task.prediction.predictor.network.numbers

    def scores(image):
        logits = query_logits(model, "mask2former")(image)[:, queries]
        return logits if score == "margin" else 1 / (1 + torch.exp(-logits))

    assert len(queries) > 1
    assert_rows(task, findings, scores)


@pytest.mark.parametrize(("kind", "seed"), [("mask2former", 2), ("maskformer", 3)])
def test_noise_cannot_swap_queries(home, photo, kind, seed):
    task, _ = natural.explain(made(home, kind, seed), photo, rows=3)
    model, found = query_model(home / kind), task.prediction
    generator = torch.Generator().manual_seed(0)
    noisy = image_of(task) + 2 * torch.randn(image_of(task).shape, generator=generator)
    case = replace(task.case, image=noisy[0].numpy())
    with torch.no_grad():
        adapter = natural.adapter(home / kind)
        again = adapter.predict(model, case, task.criteria).predictor.network.numbers
        logits = found.predictor(noisy)[0]
        every = query_logits(model, kind)(noisy)[0]
    queries = found.predictor.network.numbers
    assert again.tolist() != queries.tolist()  # by falling score, others would be found
    assert literal.worst(logits, every[queries]) < WITHIN


# ------------------------------------------------------------------------------------------- boxes


@pytest.fixture(scope="module")
def rcnn(home):
    return natural.vision(detection.maskrcnn_resnet50_fpn, home / "rcnn.pth")


def rcnn_model(checkpoint, shorter=SMALL):
    model = detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=shorter
    ).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    return model


def test_the_instances_of_boxes(rcnn, photo, small):
    least = 0.565  # random weights are sure of much
    task, findings = natural.explain(rcnn, photo, labels=(1,), rows=2, threshold=least)
    assert_places(task)
    model = rcnn_model(rcnn)
    pixels = torch.from_numpy(np.moveaxis(np.asarray(Image.open(photo)), -1, 0) / np.float32(255))
    with torch.no_grad():
        (wanted,) = model([pixels])
    shown = (wanted["masks"][:, 0] > 0.5).flatten(1).any(dim=1)
    wanted = {name: one[shown & (wanted["scores"] >= least)] for name, one in wanted.items()}
    found = task.prediction
    assert 1 < len(found.names) < 8
    assert found.scores == pytest.approx(wanted["scores"].tolist(), abs=1e-5)
    names = ("background", "class 1", "class 2")
    assert list(found.names) == [names[label] for label in wanted["labels"]]
    masks = wanted["masks"][:, 0] > 0.5
    for mask, voxels in zip(masks, found.domains, strict=True):
        np.testing.assert_array_equal(np.argwhere(mask.numpy()), voxels)
    place = resize_boxes(found.predictor.network.boxes, task.case.grid.shape, PICTURE)
    torch.testing.assert_close(place, wanted["boxes"], atol=1e-3, rtol=0)
    assert_rows(task, findings, lambda image: box_logits(model, image, wanted, place))
    whole = findings.explained[0]
    score = InstanceScore(found.predictor, whole, "probability")
    with torch.no_grad():
        logits = box_logits(model, image_of(task), wanted, place)[0, whole.class_index]
        own = 1 / (1 + torch.exp(-logits[tuple(torch.from_numpy(whole.row_voxels.T))]))
        torch.testing.assert_close(score(image_of(task))[0], own.mean(), atol=1e-5, rtol=0)
    # Noise cannot move boxes: on a noisy picture others would be found.
    noisy = image_of(task) + torch.randn(
        image_of(task).shape, generator=torch.Generator().manual_seed(0)
    )
    case = replace(task.case, image=noisy[0].numpy())
    with torch.no_grad():
        again = natural.adapter(rcnn).predict(model, case, replace(task.criteria, threshold=0.3))
        moved = torch.cdist(again.predictor.network.boxes, found.predictor.network.boxes)
        assert moved.min(dim=0).values.max() > 1  # pixel
        frozen = box_logits(model, noisy, wanted, place)
        assert literal.worst(task.predictor(noisy), frozen) < WITHIN


def test_boxes_in_an_input_that_is_padded_to_nearly_twice_its_size(rcnn, photo, monkeypatch):
    """Features are scaled by the size without padding: 40 of 64 pixels, another power of two."""
    monkeypatch.setattr(boxes, "SHORTER", 40)
    task, _ = natural.explain(rcnn, photo, labels=(1,), rows=2, threshold=0.565)
    assert task.case.grid.shape[0] == 40
    pixels = torch.from_numpy(np.moveaxis(np.asarray(Image.open(photo)), -1, 0) / np.float32(255))
    with torch.no_grad():
        (wanted,) = rcnn_model(rcnn, 40)([pixels])
        found = boxes.find(
            rcnn_model(rcnn, 40),
            boxes.padded(image_of(task), task.predictor.layout),
            task.case.grid.shape,
        )
        network = task.predictor.network
        fresh = boxes.FrozenBoxes(rcnn_model(rcnn, 40), network.boxes, network.labels, network.size)
        masks = fresh(boxes.padded(image_of(task), task.predictor.layout))[0].sigmoid()
    place = resize_boxes(found["boxes"], task.case.grid.shape, PICTURE)
    torch.testing.assert_close(place, wanted["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(found["scores"], wanted["scores"])
    row = torch.cdist(network.boxes, found["boxes"]).argmin(dim=1)
    torch.testing.assert_close(masks, found["masks"][row, 0], atol=1e-5, rtol=0)


def box_logits(model, image, wanted, place):
    """Mask logits of the clean image's boxes, pasted by torchvision itself."""
    y, x = image.shape[2:]
    features = model.backbone(functional.pad(image, [0, -x % 32, 0, -y % 32]))
    at = resize_boxes(place, PICTURE, (y, x))
    heads = model.roi_heads
    pooled = heads.mask_roi_pool(features, [at], [(y, x)])
    logits = heads.mask_predictor(heads.mask_head(pooled))
    chosen = logits[torch.arange(len(place)), wanted["labels"]]
    return paste_masks_in_image(chosen[:, None], place, PICTURE)[:, 0][None]


def test_pasting_is_that_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(12, 2, 2, generator=generator) * 60 - 8  # some reach out of the picture
    edges = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    logits = torch.randn(1, 12, 28, 28, generator=generator)
    found = boxes.paste(edges, (28, 28), PICTURE)(logits)[0]
    wanted = paste_masks_in_image(logits[0][:, None], edges, PICTURE)[:, 0]
    assert literal.worst(found, wanted) < 1e-6


def test_a_model_that_is_sure_of_nothing_says_what_it_is_surest_of(home, photo):
    words = r"score of 0.999 or more; the surest is car with 0\.\d+; give a lower --threshold"
    with pytest.raises(SegxaiError, match=words):
        natural.explain(made(home, "mask2former", 2), photo, threshold=0.999)


def test_small_detections_can_be_left_out(home, photo):
    folder = made(home, "mask2former", 2)
    _, every = natural.explain(folder, photo, rows=1)
    sizes = {one.label: len(one.voxels) for one in every.instances}
    least = sorted(sizes.values())[1]
    _, some = natural.explain(folder, photo, rows=1, min_volume_mm3=float(least))
    large = {label for label, size in sizes.items() if size >= least}
    assert {one.label for one in some.instances} == large < sizes.keys()
    with pytest.raises(SegxaiError, match="9999 px"):
        natural.explain(folder, photo, min_volume_mm3=9999.0)


# --------------------------------------------------------------- what is there, and how large it is


def test_a_class_that_is_not_in_the_picture(folder):
    natural.segformer(folder / "model", 1)
    natural.picture(folder / "a.png")
    run = ["run", "--plugin", "natural_image", "--checkpoint", "model", "a.png"]
    assert "car has 9 px" in segxai(*run).error
    found = segxai(*run, "--threshold", "0.9999")
    assert "largest probability of car is 0" in found.error
    assert "this image shows background 100%" in found.error
    wrong = ["run", "--plugin", "natural_image", "--checkpoint", "model", "a.png", "--class", "cat"]
    assert segxai(*wrong).error.startswith("unknown class 'cat'; known: background, car, person")


def test_a_picture_that_is_too_large_for_its_detections(folder, monkeypatch):
    natural.mask2former(folder / "model", 2)
    monkeypatch.setattr(surest, "MOST_LOGITS", 1000)
    picture = natural.picture(folder / "a.png", (40, 60))
    words = r"detections in a picture of 40 x 60 pixels .* give a higher --threshold, or a picture"
    with pytest.raises(SegxaiError, match=words):
        natural.explain(folder / "model", picture, threshold=0.2)


def test_a_picture_of_many_pixels_and_classes_keeps_the_class_that_is_explained(
    folder, monkeypatch
):
    natural.segformer(folder / "model", 4)
    picture = natural.picture(folder / "a.png")
    asked = {"class_name": "car", "rows": 3}
    _, whole = natural.explain(folder / "model", picture, **asked)
    monkeypatch.setattr("segxai.segment.predict.MOST_KEPT", 1000)
    monkeypatch.setattr("segxai.segment.predictor.SLAB", 3 * 70 * 5)  # five rows of pixels
    task, found = natural.explain(folder / "model", picture, **asked)
    assert whole.segmentation.kept == (0, 1, 2)
    assert found.segmentation.kept == (1,)
    assert found.segmentation.logits.shape == (1, *natural.PICTURE)
    one, other = (each.segmentation.probability(1) for each in (found, whole))
    np.testing.assert_allclose(one, other, atol=1e-6)
    for index in range(3):
        masks = [each.segmentation.mask(index, None) for each in (found, whole)]
        assert (masks[0] != masks[1]).mean() < 1e-3  # rounding may turn a pixel on a border
    stored = schema.segmentation_dataset(task.case, found.segmentation, found.instances)
    assert stored["class"].values.tolist() == ["car"]
    kept = stored["probability"].sel({"class": "car"})
    np.testing.assert_array_equal(kept, one.astype(np.float16))
