"""Checkpoints of natural images as people have them, and what is said of those that are none."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segxai_natural_image import extras, processors, surest, weights_files
from segxai_natural_image.adapter import adapter_of
from torch import nn
from torchvision.models import resnet18, segmentation
from torchvision.models.detection import maskrcnn_resnet50_fpn
from transformers import (
    MobileViTImageProcessor,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
)

from segxai.errors import SegxaiError
from segxai.store import schema
from tests import literal
from tests.commandline import segxai
from tests.natural_image import models as natural

TINY = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}


class Evil:
    def __reduce__(self):
        return (open, ("harm", "w"))


def adapter(path):
    return adapter_of(Path(path))


def load(path):
    return adapter(path).load_network()


def refused(path, words):
    with pytest.raises(SegxaiError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def change_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    config = {key: value for key, value in (config | changes).items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))


# ------------------------------------------------------------------------------ folders, by mistake


def test_a_folder_of_something_else(folder):
    refused(folder, r"has no config.json: it is not a model of transformers; give a folder that s")
    (folder / "config.json").write_text("{")
    refused(folder, r"config.json is not JSON \(.*\); give a folder that save_pretrained wrote")
    (folder / "config.json").write_text('{"a": 1}')
    refused(folder, "names no model_type")
    (folder / "config.json").write_text('{"model_type": "vitt"}')
    refused(folder, "of type 'vitt', not a segmentation model known here; known: beit, .*segform")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            lambda: ViTForImageClassification(
                ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
            ),
            "of type 'vit', not a segmentation model known",
        ),
        (
            lambda: SegformerForImageClassification(SegformerConfig(**TINY)),
            "the weights of SegformerForImageClassification, which do not segment; give a folder of"
            " SegformerForSemanticSegmentation",
        ),
    ],
)
def test_a_model_that_classifies_pictures(folder, network, words):
    refused(natural.save(network(), folder / "model"), words)


def test_a_folder_without_the_weights_that_segment(folder):
    natural.save(SegformerForImageClassification(SegformerConfig(**TINY)), folder)
    change_config(folder, architectures=None)
    refused(folder, r"lacks \d+ tensors of SegformerForSemanticSegmentation, such as 'decode_head")
    (folder / "model.safetensors").unlink()
    refused(folder, "there is no file named model.safetensors or .* in ")


def test_no_weights_run_code(folder):
    natural.segformer(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    refused(folder, "the weights of .* cannot be loaded")
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    refused(folder, "the weights of .* cannot be loaded")
    assert not (folder / "harm").exists()


def test_weights_without_code_may_be_pickled(folder):
    natural.segformer(folder)
    wanted = adapter(folder).load_network().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(
        {name.removeprefix("network."): one for name, one in wanted.items()},
        folder / "pytorch_model.bin",
    )
    found = adapter(folder).load_network().state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)


def test_code_in_a_folder_is_not_run(folder):
    natural.segformer(folder)
    (folder / "evil.py").write_text("open('harm', 'w')\nclass Evil: pass\n")
    change_config(folder, auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    adapter(folder).load_network()
    change_config(folder, model_type="evil")
    refused(folder, "of type 'evil', not a segmentation model known")
    assert not (folder / "harm").exists()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("transformers_weights", "other.safetensors", "names its own file of weights, in 'transf"),
        ("attn_implementation", "evil/kernel", "chooses an implementation, in 'attn_implementat"),
        ("_attn_implementation", "evil/kernel:x", "chooses an implementation, in '_attn_impleme"),
        ("_attn_implementation_internal", {"": "evil/kernel"}, "that could be code from elsewher"),
        ("experts_implementation", "evil/kernel", r"remove that \(known: eager, sdpa\)"),
    ],
)
def test_a_configuration_chooses_no_weights_and_no_code(folder, key, value, words, nested):
    content = {"model_type": "segformer", **({"a": [{key: value}]} if nested else {key: value})}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(SegxaiError, match=words):
        adapter(folder)


def test_the_weights_that_are_hashed_are_those_that_are_loaded(folder):
    natural.segformer(folder)
    (folder / "pytorch_model.bin").write_bytes(b"innocent")
    made = adapter(folder)
    assert made.weights == folder / "model.safetensors"
    with extras.quiet():
        wanted = SegformerForSemanticSegmentation.from_pretrained(folder).state_dict()
    found = made.load_network().network.state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)
    change_config(folder, attn_implementation="eager")  # known, as old folders have it
    adapter(folder).load_network()


def sharded(folder, *names):
    """Split a folder's weights in files of these names; return them as they are loaded."""
    loaded = adapter(folder).load_network().network.state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {name: dict(list(tensors.items())[n :: len(names)]) for n, name in enumerate(names)}
    for name, part in parts.items():
        save_file(part, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return loaded


def test_weights_in_several_files(folder):
    natural.segformer(folder)
    wanted = sharded(folder, "a.safetensors", "b.safetensors")
    made = adapter(folder)
    assert made.weights == folder
    found = made.load_network().network.state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)


@pytest.mark.parametrize("place", ["../b.safetensors", "/b.safetensors", "..", "", 3, None])
def test_an_index_names_files_in_its_folder(folder, place):
    (folder / "inner").mkdir()
    natural.segformer(folder / "inner")
    sharded(folder / "inner", "a.safetensors", "../b.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": place}}
    (folder / "inner/model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder / "inner", "index.json names .*, which is not a file in its folder")


def test_half_precision_is_computed_in_full(folder):
    natural.segformer(folder)
    network = adapter(folder).load_network().network
    natural.save(network.half(), folder / "half")
    again = adapter(folder / "half").load_network()
    assert {one.dtype for one in again.parameters()} == {torch.float32}


def test_a_folder_is_hashed_by_its_weights(folder):
    natural.segformer(folder)
    assert adapter(folder).weights == folder / "model.safetensors"


# --------------------------------------------------------------------------------------- processors


def test_without_a_processor_colours_are_those_of_imagenet(folder):
    natural.segformer(folder)
    (folder / "preprocessor_config.json").unlink()
    found = adapter(folder)
    assert "no preprocessor_config.json" in found.notes[1]
    case = found.read({"image": natural.picture(folder / "a.png", (64, 32))})
    assert case.grid.shape == (64, 32)
    pixels = np.moveaxis(case.picture, -1, 0) / 255
    wanted = (pixels - np.array(processors.IMAGENET_MEAN)[:, None, None]) / np.array(
        processors.IMAGENET_STD
    )[:, None, None]
    np.testing.assert_allclose(case.image, wanted, atol=1e-5)
    case = found.read({"image": natural.picture(folder / "a.png", (46, 70))})
    assert case.grid.shape == (32, 64)


def test_a_processor_that_cannot_be_read(folder):
    natural.segformer(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "Nothing"}')
    refused(folder, r"the image processor of .* cannot be loaded \(.*\); fix its preprocessor")


def test_blue_first_and_no_crop(folder):
    natural.segformer(folder)
    MobileViTImageProcessor(size={"shortest_edge": 40}).save_pretrained(folder)
    found = adapter(folder)
    assert found.channels == ("blue", "green", "red")
    assert "do_center_crop of its image processor is left out" in found.notes[1]
    case = found.read({"image": natural.picture(folder / "a.png", (40, 60))})
    assert case.input_unit == "full scale"
    wanted = np.moveaxis(case.picture[..., ::-1], -1, 0) / 255
    np.testing.assert_allclose(case.image, wanted, atol=1e-6)


# -------------------------------------------------------------------------------- files, by mistake


def test_a_file_of_something_else(folder):
    refused("none.pth", "no checkpoint at none.pth; give a folder of transformers, or a file of to")
    Path("text.pth").write_text("hello")
    refused("text.pth", "cannot read the checkpoint text.pth")
    torch.save(nn.Conv2d(1, 1, 1), "whole.pth")
    refused("whole.pth", r"other than tensors.*save it with torch.save\(network.state_dict\(\)")
    torch.save({"a": Evil()}, "evil.pth")
    refused("evil.pth", "other than tensors")
    assert not Path("harm").exists()
    torch.save(torch.zeros(3), "one.pth")
    refused("one.pth", "holds a Tensor; expected a state dict")
    torch.save({}, "empty.pth")
    refused("empty.pth", "not hold weights of a segmentation .* its 0 tensors begin with 'nothing'")
    torch.save(resnet18().state_dict(), "resnet.pth")
    refused("resnet.pth", r"a segmentation model of torchvision \(FCN, .*\): its 122 tensors begin")


def lraspp(classes=3):
    return segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=classes
    ).eval()


def test_weights_that_nearly_fit(folder):
    state = lraspp().state_dict()
    state["backbone.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    torch.save(state, "grey.pth")
    refused(
        "grey.pth",
        r"fits none of torchvision's lraspp_mobilenet_v3_large: .* comes nearest, but 1 tensors "
        r"differ: 'backbone.0.0.weight', for one, is of shape \(16, 1, 3, 3\)",
    )
    del state["backbone.0.0.weight"]
    torch.save(state, "short.pth")
    refused("short.pth", "'backbone.0.0.weight', for one, is missing")


# ---------------------------------------------------------------------------------- files, as found


@pytest.mark.parametrize("wrapped", ["bare", "module", "state_dict", "safetensors"])
def test_weights_however_they_were_saved(folder, wrapped):
    network = lraspp()
    state = network.state_dict()
    path = Path("weights.safetensors" if wrapped == "safetensors" else "weights.pth")
    if wrapped == "safetensors":
        save_file(state, path)
    elif wrapped == "module":
        torch.save({f"module.{name}": one for name, one in state.items()}, path)
    else:
        torch.save(state if wrapped == "bare" else {"state_dict": state, "step": 3}, path)
    found = adapter(path).load_network()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, step = found.watched(image)
        assert literal.worst(logits, network(image)["out"]) == 0
    assert step.before.shape[2:] == (8, 8)


@pytest.mark.parametrize("auxiliary", [3, 21])
def test_an_auxiliary_head_is_left_out(folder, auxiliary):
    network = segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    )
    width = network.aux_classifier[0].in_channels
    network.aux_classifier = segmentation.fcn.FCNHead(width, auxiliary)
    torch.save(network.state_dict(), "weights.pth")
    found = adapter("weights.pth").load_network()
    assert found.network.aux_classifier is None
    wanted = network.classifier.state_dict()
    state = found.network.classifier.state_dict()
    assert all((state[name] == wanted[name]).all() for name in wanted)


def test_names_of_classes(folder):
    torch.save(lraspp(21).state_dict(), "voc.pth")
    assert adapter("voc.pth").classes[7] == "car"
    assert adapter("voc.pth").criteria.class_index == 1
    torch.save(lraspp(4).state_dict(), "own.pth")
    assert adapter("own.pth").classes == ("background", "class 1", "class 2", "class 3")
    torch.save(lraspp(1).state_dict(), "one.pth")
    assert adapter("one.pth").classes == ("class 0",)


def test_frozen_statistics_have_no_epsilon():
    with torch.device("meta"):
        frozen = weights_files._build("maskrcnn_resnet50_fpn", 91, is_frozen=True)
        other = weights_files._build("maskrcnn_resnet50_fpn", 91)
    assert {one.eps for one in frozen.modules() if isinstance(one, nn.BatchNorm2d)} == {0.0}
    assert {one.eps for one in other.modules() if isinstance(one, nn.BatchNorm2d)} == {1e-5}


def test_masks_with_91_classes_have_the_names_of_coco(folder):
    with torch.device("meta"):
        state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    small = {name: torch.zeros(()).expand(one.shape) for name, one in state.items()}
    torch.save({k: v for k, v in small.items() if "num_batches" not in k}, "coco.pth")
    file = weights_files.read_file(Path("coco.pth"))
    assert (file.classes[3], file.is_frozen, file.finds_instances) == ("car", True, True)


# --------------------------------------------------------------------------------------- the rest


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
    np.testing.assert_array_equal(stored["probability"].sel({"class": "car"}), one)


def test_a_class_that_is_not_in_the_picture(folder):
    natural.segformer(folder / "model", 1)
    natural.picture(folder / "a.png")
    run = ["run", "--plugin", "natural_image", "--checkpoint", "model", "a.png"]
    assert "largest piece of car has 9 px, the smallest instance is 50 px" in segxai(*run).error
    found = segxai(*run, "--threshold", "0.9999")
    assert "largest probability of car is 0" in found.error
    assert "this image shows background 100%" in found.error
    wrong = ["run", "--plugin", "natural_image", "--checkpoint", "model", "a.png", "--class", "cat"]
    assert segxai(*wrong).error.startswith("unknown class 'cat'; known: background, car, person")


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = r"this model needs transformers, .*pip install 'segxai\[natural\]'"
    with pytest.raises(SegxaiError, match=words):
        extras.library("transformers")
    with pytest.raises(
        SegxaiError, match="this model needs nowhere_at_all, which is not installed"
    ):
        extras.library("nowhere_at_all")


def test_a_library_that_fails_to_import(folder, monkeypatch):
    Path("brokenvision.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(folder)
    words = r"which fails to import \(operator nms does not exist\); torch and torchvision must"
    with pytest.raises(SegxaiError, match=words):
        extras.library("brokenvision")
