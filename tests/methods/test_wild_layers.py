"""Layers of transformers as they are published: their layouts, heat maps, and default layers."""

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from torch import nn
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.methods.default_layer import choose_layer
from segxai.methods.gradcam import InstanceGradCamPlusPlus
from segxai.methods.layers import find_layer
from segxai.segment.logits import logits_of
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests import literal
from tests.networks import block, image_of, untrained

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*a denominator of 0 or below", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def swin_unetr():
    return SwinUNETR(1, 2, patch_size=2, feature_size=12, num_heads=(1, 2, 4, 8), spatial_dims=2)


def unetr():
    small = {"feature_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}
    return UNETR(1, 2, img_size=(64, 64), spatial_dims=2, **small)


def segformer():
    sizes = {"hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2]}
    config = SegformerConfig(num_labels=4, depths=[1] * 4, decoder_hidden_size=16, **sizes)
    return SegformerForSemanticSegmentation(config)


def upernet():
    stages = [f"stage{n}" for n in (1, 2, 3, 4)]
    heads = {"num_heads": [1, 1, 2, 2], "depths": [1, 1, 2, 1], "out_features": stages}
    config = SwinConfig(embed_dim=8, window_size=4, **heads)
    auxiliary = {"auxiliary_in_channels": 32, "auxiliary_channels": 8}
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=config, num_labels=4, hidden_size=16, **auxiliary)
    )


NETWORKS = {
    "swin_unetr": (swin_unetr, (1, 64, 64)),
    "unetr": (unetr, (1, 64, 64)),
    "segformer": (segformer, (3, 64, 96)),
    "upernet": (upernet, (3, 64, 96)),
}


@pytest.fixture(params=NETWORKS)
def wild(request):
    make, shape = NETWORKS[request.param]
    return request.param, untrained(make), image_of(shape)


def last(size):
    return lambda output: output[0].movedim(-1, 0)


def tokens(size):
    return lambda output: output[0].T.reshape(-1, *size)


LAYERS = {
    "a block of Swin": ("swin_unetr", "swinViT.layers2.0.blocks.1", last((16, 16))),
    "the last norm of SegFormer": ("segformer", "segformer.stages.3.layer_norm", tokens((2, 3))),
    "a block of UperNet": (
        "upernet", "backbone.swin.encoder.layers.1.blocks.0", tokens((8, 12)),
    ),
    "a block of a ViT for one size": ("unetr", "vit.blocks.7", tokens((4, 4))),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_has_the_heat_map_of_the_formulas(case):
    name, layer, to_maps = LAYERS[case]
    make, shape = NETWORKS[name]
    network, image = untrained(make), image_of(shape)
    instance = block(shape[1:], (20, 24), (16, 20))
    found = InstanceGradCamPlusPlus(
        Predictor(network, whole_image(shape[1:])), find_layer(network, layer)
    ).attribute(image, instance=instance)
    kept = []
    hook = find_layer(network, layer).register_forward_hook(lambda _, __, out: kept.append(out))
    coarse = logits_of(network(image))
    hook.remove()
    logits = nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    output = kept[0] if isinstance(kept[0], torch.Tensor) else kept[0][0]
    total = logits[0, 1][tuple(instance.voxels.T)].sum()
    (gradient,) = torch.autograd.grad(total, output)
    heat = literal.grad_cam(to_maps(output.detach()), to_maps(gradient), localised=True)
    wanted = nn.functional.interpolate(
        torch.from_numpy(heat)[None, None], shape[1:], mode="bilinear"
    )
    assert wanted.max() > 0
    assert literal.worst(found.double(), wanted) < 1e-4


def test_a_stage_that_returns_two_tensors_is_refused():
    network, image = untrained(upernet), image_of((3, 64, 96))
    stage = find_layer(network, "backbone.swin.encoder.layers.1")
    with pytest.raises(SegxaiError, match="returns 2 tensors that the logits depend on, of shapes"):
        InstanceGradCamPlusPlus(network, stage).attribute(image, block((64, 96), (9, 9), (4, 4)))


def test_attention_in_windows_is_refused():
    network, image = untrained(swin_unetr), image_of((1, 64, 64))
    layer = find_layer(network, "swinViT.layers1.0.blocks.0.attn")
    with pytest.raises(SegxaiError, match="does not have the axes of an image"):
        InstanceGradCamPlusPlus(network, layer).attribute(image, block((64, 64), (9, 9), (4, 4)))


DEFAULTS = {
    "swin_unetr": "decoder1.conv_block",
    "unetr": "decoder2.conv_block",
    "segformer": "decode_head.activation",
    "upernet": "decode_head.fpn_bottleneck.activation",
}


def test_the_default_layer_is_the_last_activation_of_the_decoder(wild):
    name, network, image = wild
    shape = image.shape[2:]
    predictor = Predictor(network, whole_image(shape))
    with pytest.warns(SegxaiWarning, match="the last activation before the logits"):
        assert choose_layer(predictor, image, block(shape, (20, 24), (16, 20))) == DEFAULTS[name]
