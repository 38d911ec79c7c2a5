"""Rows through nnU-Net's tiles, slices, folds and mirror images: those of autograd."""

from pathlib import Path

import numpy as np
import pytest
import torch
from segxai_nnunet import adapter, dynunet

from segxai.methods.gradcam import InstanceGradCamPlusPlus
from segxai.methods.layers import find_layer
from segxai.rows import jacobian
from segxai.rows.engines import find_engine
from segxai.segment.inference_mode import frozen
from segxai.segment.mirrored import Mirrored
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests import literal
from tests.literal import worst
from tests.networks import block, image_of, untrained
from tests.nnunet import folders as nnunet

BATCH_NORM = {"norm_op": "torch.nn.BatchNorm2d", "norm_op_kwargs": {}}
SLICES = nnunet.configuration(
    architecture=nnunet.architecture(2), patch_size=[16, 20], spacing=[0.9, 1.1]
)
PLANS = {
    "tiles": (nnunet.configuration(), {}),
    "a residual encoder": (
        nnunet.configuration(architecture=nnunet.architecture(name="ResidualEncoderUNet")),
        {},
    ),
    "an image smaller than the tile": (nnunet.configuration(patch_size=[32, 32, 32]), {}),
    "folds": (nnunet.configuration(), {"folds": (0, 1)}),
    "mirrored": (nnunet.configuration(), {"mirror_axes": (0, 1)}),
    "slice by slice": (SLICES, {"mirror_axes": (1,)}),
}


def explainable(folder, chosen, options, *, tta=False):
    """A predictor, its image, and the adapter that made both."""
    model = nnunet.trained_model(folder / "model", chosen, **options)
    made = adapter.for_checkpoint(model)
    case = made.read(nnunet.files(folder))
    network = made.load_network()
    network = Mirrored(network, made.mirror_axes) if tta else network
    predictor = made.predict(network, case, made.criteria)
    return predictor, torch.from_numpy(case.image)[None]


def row(predictor, image, voxel, class_index):
    """One row on the whole grid, as the hot path computes it."""
    local, box = predictor.crop_to(voxel[None])
    with frozen(predictor.network):
        engine = find_engine(local, image[box.index], box.local(voxel[None])).make()
        (found,) = jacobian.rows(
            local, image[box.index], box.local(voxel[None]), class_index=class_index, engine=engine
        )
    full = torch.zeros_like(image)
    full[box.index][found.box.index] = found.values
    return full[0]


@pytest.mark.parametrize(("chosen", "options"), PLANS.values(), ids=PLANS)
def test_rows_are_those_of_autograd(folder, chosen, options):
    tta = "mirror_axes" in options
    predictor, image = explainable(folder, chosen, options, tta=tta)
    shape = np.array(image.shape[2:])
    for voxel in (shape // 2, shape // 3, np.array([0, 1, shape[2] - 1])):
        with frozen(predictor.network):
            (wanted,) = literal.rows(predictor, image, voxel[None], class_index=2)
        assert wanted.any()
        assert worst(row(predictor, image, voxel, 2), wanted) < 1e-5


def test_rows_of_a_network_of_slices_stay_in_their_slice(folder):
    predictor, image = explainable(folder, SLICES, {})
    voxel = np.array([5, 9, 7])
    found = row(predictor, image, voxel, 1)
    assert found[:, 5].abs().amax(dim=(1, 2)).min() > 0
    found[:, 5] = 0
    assert not found.any()


def test_rows_of_slices_with_batch_norm_are_those_of_autograd(folder):
    plans = nnunet.architecture(2)
    plans["arch_kwargs"].update(BATCH_NORM)
    predictor, image = explainable(folder, {**SLICES, "architecture": plans}, {})
    voxel = np.array([5, 9, 7])
    with frozen(predictor.network):
        (wanted,) = literal.rows(predictor, image, voxel[None], class_index=1)
    assert worst(row(predictor, image, voxel, 1), wanted) < 1e-5


def test_feature_maps_of_a_network_of_slices_lie_on_the_grid(folder):
    predictor, image = explainable(folder, SLICES, {})
    instance = block(image.shape[2:], (5, 8, 7), (2, 3, 3))
    layer = find_layer(predictor.network, "decoder.stages.1")
    with frozen(predictor.network):
        heat = InstanceGradCamPlusPlus(predictor, layer).attribute(image, instance)
    assert heat.shape[2:] == image.shape[2:]
    outside = [z for z in range(image.shape[2]) if z not in (5, 6)]
    assert heat[0, 0, 5:7].any()
    assert not heat[0, 0, outside].any()


def test_rows_of_a_dynunet_are_those_of_autograd(folder):
    torch.save(untrained(dynunet.dynunet, (4, 6, 8)).state_dict(), "w.pt")
    network = adapter.for_checkpoint(Path("w.pt")).load_network()
    predictor, image = Predictor(network, whole_image((20, 16, 24))), image_of((2, 20, 16, 24))
    voxel = np.array([14, 2, 9])
    with frozen(network):
        (wanted,) = literal.rows(predictor, image, voxel[None])
    assert worst(row(predictor, image, voxel, 1), wanted) < 1e-5
