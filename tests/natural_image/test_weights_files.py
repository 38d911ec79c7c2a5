"""Weights of torchvision as people have them, and what is said of files that are none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from segxai_natural_image import weights_files
from torch import nn
from torchvision.models import resnet18, segmentation
from torchvision.models.detection import maskrcnn_resnet50_fpn

from tests import literal
from tests.natural_image.models import adapter, refused
from tests.pickles import Bomb

# --------------------------------------------------------------------------------------- by mistake


def test_a_file_of_something_else(folder):
    refused("none.pth", "no checkpoint at none.pth; give a folder of transformers, or a file of to")
    Path("text.pth").write_text("hello")
    refused("text.pth", "cannot read the checkpoint text.pth")
    torch.save(nn.Conv2d(1, 1, 1), "whole.pth")
    refused("whole.pth", r"contains torch.*Conv2d beside .* with torch.save\(network.state_d")
    torch.save({"a": Bomb()}, "evil.pth")
    refused("evil.pth", "contains [a-z]+.mkdir beside tensors and numbers, which could run code")
    assert not Path("exploded").exists()
    torch.save(torch.zeros(3), "one.pth")
    refused("one.pth", "holds a Tensor; expected a state dict")
    torch.save({}, "empty.pth")
    refused("empty.pth", "not hold weights of a segmentation .* it begins with 'nothing'")
    torch.save(resnet18().state_dict(), "resnet.pth")
    refused("resnet.pth", r"a segmentation model of torchvision \(FCN, .*: it begins with 'conv1")


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


# ----------------------------------------------------------------------------------------- as found


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
