"""Small models of transformers and torchvision with random weights, saved as people have them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from segxai_natural_image.adapter import adapter_of
from segxai_natural_image.extras import quiet
from skimage.data import astronaut
from torch import nn
from transformers import (
    ConvNextConfig,
    DetrConfig,
    DPTConfig,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    MaskFormerImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from segxai.errors import SegxaiError
from segxai.pipeline import survey
from segxai.plugins.registry import load_adapter, load_aggregator
from segxai.run.attribute import attribute
from segxai.run.options import Options
from segxai.run.prepare import prepare

LABELS = {0: "background", 1: "car", 2: "person"}
PICTURE = (46, 70)  # pixels, rows and columns
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def picture(path, shape=PICTURE):
    """A part of a photograph, as a file."""
    y, x = shape
    Image.fromarray(astronaut()[20 : 20 + 4 * y : 4, 120 : 120 + 4 * x : 4]).save(path)
    return path


def lively(make, config, seed=0, gain=1.5):
    """A network with weights large enough for its logits to depend on the picture."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = make(config)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter += torch.randn(parameter.shape) * gain * parameter[0].numel() ** -0.5
    return network.eval()


def save(network, folder, processor=None):
    with quiet():
        network.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
    return folder


def segformer(folder, seed=0):
    config = SegformerConfig(
        id2label=LABELS,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    processor = SegformerImageProcessor(size={"height": 64, "width": 96})
    return save(lively(SegformerForSemanticSegmentation, config, seed), folder, processor)


def upernet(folder, seed=0):
    backbone = ConvNextConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], out_features=STAGES)
    config = UperNetConfig(
        id2label=LABELS,
        backbone_config=backbone,
        hidden_size=16,
        auxiliary_channels=8,
        auxiliary_in_channels=16,
    )
    return save(lively(UperNetForSemanticSegmentation, config, seed), folder)


def dpt(folder, seed=0):
    config = DPTConfig(
        id2label=LABELS,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
    )
    processor = DPTImageProcessor(size={"height": 64, "width": 64})
    return save(lively(DPTForSemanticSegmentation, config, seed), folder, processor)


def swin():
    return SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=STAGES,
    )


def save_queries(network, folder, processor):
    """A model of queries, some of which are sure of a class."""
    with torch.no_grad():
        network.class_predictor.weight *= 8
        network.class_predictor.bias[:] = torch.tensor([1.0, 4.0, 4.0, 0.0])
    return save(network, folder, processor(size={"shortest_edge": 64, "longest_edge": 96}))


def mask2former(folder, seed=0):
    config = Mask2FormerConfig(
        id2label=LABELS,
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
    )
    network = lively(Mask2FormerForUniversalSegmentation, config, seed, gain=0.6)
    return save_queries(network, folder, Mask2FormerImageProcessor)


def maskformer(folder, seed=0):
    decoder = DetrConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=5,
    )
    config = MaskFormerConfig(
        id2label=LABELS,
        backbone_config=swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
    )
    network = lively(MaskFormerForInstanceSegmentation, config, seed)
    return save_queries(network, folder, MaskFormerImageProcessor)


def with_four_channels(folder):
    """Change a folder's network to one of four channels; its processor still makes three."""
    config = json.loads((folder / "config.json").read_text())
    config.get("backbone_config", config)["num_channels"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    for name, one in state.items():
        if one.ndim == 4 and one.shape[1] == 3 and "patch_embed" in name:
            state[name] = torch.cat([one, one[:, :1]], dim=1)
    save_file(state, folder / "model.safetensors")


def vision(build, path, classes=3, **options):
    """A model of torchvision, saved as its training scripts do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(weights=None, weights_backbone=None, num_classes=classes, **options)
        for part in network.modules():
            if isinstance(part, nn.Conv2d) and part.out_channels == classes:
                nn.init.normal_(part.weight, std=0.1)
    torch.save({"model": network.state_dict(), "epoch": 3}, path)
    return path


def adapter(path):
    return adapter_of(Path(path))


def load(path):
    return adapter(path).load_network()


def refused(path, words):
    with pytest.raises(SegxaiError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def explain(checkpoint, path, **asked):
    """The task of one picture, and what was found in it, through the public pipeline."""
    adapter = load_adapter("natural_image", checkpoint)
    case = adapter.read({"image": path})
    request = Options.of(method="gradient", device="cpu", **asked)
    task = prepare(adapter, case, request)
    return task, survey(task)


def map_of(task, findings, instance, aggregator):
    """The map of an instance's sampled rows, on the network's whole input."""
    (run,) = task.runs
    context = replace(run.context, aggregator=load_aggregator(aggregator))
    group = (replace(run, context=context),)
    (attribution,) = attribute(task, group, instance, findings.costs[0])
    return torch.from_numpy(attribution.on_grid(task.case.grid.shape))
