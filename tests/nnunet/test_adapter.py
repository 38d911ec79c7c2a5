"""The plugin nnunet against nnU-Net itself: the same folder, the same images, the same logits."""

import json
import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from segxai_nnunet import adapter
from segxai_nnunet.preprocessing import z_scored
from segxai_nnunet.tiles import gaussian, tiles

from segxai.segment.inference_mode import frozen
from segxai.segment.mirrored import Mirrored
from tests.literal import worst
from tests.nnunet import folders as nnunet

SMALL, LARGE = [16, 16, 16], [32, 32, 32]  # than the images


@dataclass
class NnUNet:
    """What is needed of nnU-Net."""

    Predictor: Any
    compute_gaussian: Any
    compute_steps: Any
    pad: Any


@pytest.fixture(scope="module")
def theirs():
    """nnU-Net, with the folders that it asks for on import; skipped where it is not installed."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is for the tests alone")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, os.environ.get(name, "."))
        from acvl_utils.cropping_and_padding.padding import pad_nd_image
        from nnunetv2.inference import predict_from_raw_data, sliding_window_prediction

        yield NnUNet(
            predict_from_raw_data.nnUNetPredictor,
            sliding_window_prediction.compute_gaussian,
            sliding_window_prediction.compute_steps_for_sliding_window,
            pad_nd_image,
        )


def predict(theirs, folder, files, *, mirroring=False):
    """The image as nnU-Net prepares it, the logits that it predicts, and these in full precision.

    nnU-Net adds up tiles in half precision. The last are its own tiles and weights, in a loop, with
    the sum of the weights.
    """
    with redirect_stdout(StringIO()):
        predictor = theirs.Predictor(
            use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(folder), None)
        plans, chosen = predictor.plans_manager, predictor.configuration_manager
        paths = [str(path) for path in files.values()]
        preprocessor = chosen.preprocessor_class(verbose=False)
        data, _, _ = preprocessor.run_case(paths, None, plans, chosen, predictor.dataset_json)
        half = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
        full = blended_in_full(theirs, predictor, torch.from_numpy(data))
    return data, half.float(), *full


def blended_in_full(theirs, predictor, data):
    """The mean over folds of blended tiles, in float64."""
    patch = tuple(predictor.configuration_manager.patch_size)
    padded, inside = theirs.pad(data, patch, "constant", {"value": 0}, True)
    weights = theirs.compute_gaussian(patch, 1 / 8, 10, device=torch.device("cpu")).double()
    total, share = 0, torch.zeros(padded.shape[1:], dtype=torch.float64)
    for number, state in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(state)
        for tile in predictor._internal_get_sliding_window_slicers(padded.shape[1:]):
            logits = predictor._internal_maybe_mirror_and_predict(padded[tile][None])[0]
            if not torch.is_tensor(total):
                total = torch.zeros(len(logits), *padded.shape[1:], dtype=torch.float64)
            total[tile] += logits * weights
            share[tile[1:]] += weights * (number == 0)
    mean = total / share / len(predictor.list_of_parameters)
    return mean[(slice(None), *inside[1:])].float(), share[tuple(inside[1:])]


def explainable(folder, files, *, tta=False):
    """The case, and the logits of the predictor that the plugin makes."""
    made = adapter.for_checkpoint(Path(folder))
    case = made.read(files)
    network = made.load_network()
    network = Mirrored(network, made.mirror_axes) if tta else network
    with torch.no_grad(), frozen(network):
        logits = made.predict(network, case, made.criteria)(torch.from_numpy(case.image)[None])[0]
    return case, logits


def assert_agree(theirs, folder, files, *, mirroring=False):
    """The same image and the same logits as nnU-Net; returns the case."""
    data, half, full, weights = predict(theirs, folder, files, mirroring=mirroring)
    case, found = explainable(folder, files, tta=mirroring)
    assert case.image.shape == data.shape
    assert case.image.dtype == np.float32
    assert worst(case.image, data) < 1e-5
    assert found.shape == half.shape
    assert worst(found, full) < 1e-5
    # At the image's corners half precision has no digits left for what the weights are there.
    seen = weights > 1e-4
    assert seen.float().mean() > 0.8
    assert worst(found[:, seen], half[:, seen]) < 1e-2
    return case


MODELS = {
    "tiles": nnunet.configuration(patch_size=SMALL),
    "tiles of another size along each axis": nnunet.configuration(patch_size=[8, 16, 20]),
    "an image smaller than the tile": nnunet.configuration(patch_size=LARGE),
    "a residual encoder": nnunet.configuration(
        architecture=nnunet.architecture(name="ResidualEncoderUNet")
    ),
    "slice by slice": nnunet.configuration(
        architecture=nnunet.architecture(2), patch_size=[16, 20], spacing=[0.8, 1.1]
    ),
    "slices smaller than the tile": nnunet.configuration(
        architecture=nnunet.architecture(2), patch_size=[32, 32], spacing=[1.3, 1.1]
    ),
}


@pytest.mark.parametrize("chosen", MODELS.values(), ids=MODELS)
def test_images_and_logits_are_those_of_nnunet(theirs, folder, chosen):
    nnunet.trained_model(folder / "model", chosen)
    assert_agree(theirs, folder / "model", nnunet.files(folder))


@pytest.mark.parametrize("name", ["tiles", "slice by slice"])
def test_test_time_augmentation_is_that_of_nnunet(theirs, folder, name):
    axes = (0, 2) if name == "tiles" else (1,)
    nnunet.trained_model(folder / "model", MODELS[name], mirror_axes=axes)
    assert_agree(theirs, folder / "model", nnunet.files(folder), mirroring=True)


def test_folds_are_averaged_as_nnunet_does(theirs, folder):
    nnunet.trained_model(folder / "model", folds=(0, 1, 4))
    assert_agree(theirs, folder / "model", nnunet.files(folder))
    _, together = explainable(folder / "model", nnunet.files(folder))
    each = [explainable(folder / f"model/fold_{n}", nnunet.files(folder))[1] for n in (0, 1, 4)]
    assert worst(together, sum(each) / 3) < 1e-5
    assert worst(each[0], each[1]) > 0.1


GRIDS = {
    "no resampling": {"spacing": [1.4, 0.9, 1.1]},
    "finer": {"spacing": [0.8, 0.9, 0.7]},
    "coarser": {"spacing": [2.0, 1.5, 2.5]},
    "thick slices in the plans": {"spacing": [5.0, 1.5, 1.1]},
    "slices that stay as thick": {"spacing": [1.4, 0.45, 0.4]},
    "a size of almost exactly 34.5": {"spacing": [1.4, 0.6, 1.1]},
    "long along two axes": {"spacing": [4.0, 4.0, 1.0]},
    "together, although thick": {
        "spacing": [5.0, 1.5, 1.1],
        "resampling_fn_data_kwargs": {
            "is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False,
        },
    },
    "linear across slices": {
        "spacing": [2.0, 5.0, 1.1],
        "resampling_fn_data_kwargs": {
            "is_seg": False, "order": 1, "order_z": 1, "force_separate_z": None,
        },
    },
    "cubic across slices": {
        "spacing": [0.6, 5.0, 1.1],
        "resampling_fn_data_kwargs": {
            "is_seg": False, "order": 3, "order_z": 3, "force_separate_z": True,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", GRIDS.values(), ids=GRIDS)
def test_resampling_is_that_of_nnunet(theirs, folder, changes):
    nnunet.trained_model(folder / "model", nnunet.configuration(**changes))
    assert_agree(theirs, folder / "model", nnunet.files(folder))


def test_thick_slices_in_the_file_are_resampled_as_by_nnunet(theirs, folder):
    thick = nnunet.oblique((1.1, 0.9, 5.6))
    nnunet.trained_model(folder / "model", nnunet.configuration(spacing=[2.0, 1.2, 0.9]))
    case = assert_agree(theirs, folder / "model", nnunet.files(folder, thick))
    assert "resampled 5.6" in case.notes[0]


NORMALISATIONS = {
    "CT": ("CTNormalization", False),
    "none": ("NoNormalization", False),
    "range": ("RescaleTo01Normalization", False),
    "colours": ("RGBTo01Normalization", False),
    "of the whole image": ("ZScoreNormalization", False),
    "of what is not 0": ("ZScoreNormalization", True),
}


@pytest.mark.parametrize(("scheme", "masked"), NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_normalisation_is_that_of_nnunet(theirs, folder, scheme, masked):
    chosen = nnunet.configuration(
        normalization_schemes=[scheme, "ZScoreNormalization"], use_mask_for_norm=[masked, False]
    )
    nnunet.trained_model(folder / "model", chosen)
    assert_agree(theirs, folder / "model", nnunet.files(folder))


READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_axes_are_those_of_nnunet(theirs, folder, reader, order):
    chosen = nnunet.configuration(spacing=[0.7, 1.4, 1.1])
    back = np.argsort(order).tolist()
    nnunet.trained_model(
        folder / "model",
        chosen,
        image_reader_writer=reader,
        transpose_forward=order,
        transpose_backward=back,
    )
    assert_agree(theirs, folder / "model", nnunet.files(folder))


def test_plans_from_before_architectures_were_named(theirs, folder):
    chosen = nnunet.configuration(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=4,
        unet_max_num_features=8,
        n_conv_per_stage_encoder=[2, 1, 2],
        n_conv_per_stage_decoder=[1, 1],
        num_pool_per_axis=[1, 2, 2],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        conv_kernel_sizes=[[3, 3, 3]] * 3,
    )
    nnunet.trained_model(folder / "model", chosen)
    plans = json.loads((folder / "model/plans.json").read_text())
    del plans["configurations"]["3d_fullres"]["architecture"]
    (folder / "model/plans.json").write_text(json.dumps(plans))
    with pytest.warns(UserWarning, match="Detected old nnU-Net plans format"):
        assert_agree(theirs, folder / "model", nnunet.files(folder))


def test_regions_have_a_logit_each_and_the_background_has_none(theirs, folder):
    named = nnunet.dataset(
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        regions_class_order=[1, 2, 3],
    )
    nnunet.trained_model(folder / "model", named=named)
    assert_agree(theirs, folder / "model", nnunet.files(folder))
    made = adapter.for_checkpoint(folder / "model")
    assert made.classes == ("whole", "core", "enhancing")
    assert made.criteria.class_index == 0
    case = made.read(nnunet.files(folder))
    assert made.predict(made.load_network(), case, made.criteria).activation == "sigmoid"


# ------------------------------------------------------------------------------------- its parts


@pytest.mark.parametrize("patch", [(32, 32, 32), (8, 20, 14), (7, 9), (128, 96, 96)])
def test_weights_in_a_tile_are_those_of_nnunet(theirs, patch):
    wanted = theirs.compute_gaussian(patch, 1 / 8, 10, device=torch.device("cpu"))
    np.testing.assert_array_equal(gaussian(patch), wanted.float())


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 20, 14), (9, 26, 23), (20, 25, 10)])
def test_tiles_lie_where_those_of_nnunet_do(theirs, patch):
    steps = theirs.compute_steps(nnunet.SHAPE, patch, 0.5)
    wanted = [(x, y, z) for x in steps[0] for y in steps[1] for z in steps[2]]
    assert [one.start for one in tiles(nnunet.SHAPE, patch).windows] == wanted


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 30, 14), (32, 32, 32), (12, 40)])
def test_shares_sum_to_1_everywhere(patch):
    layout = tiles(nnunet.SHAPE, patch)
    total = torch.zeros(layout.shape)
    for window in layout.windows:
        total[window.inside(layout.shape).index] += layout.share(window)
    torch.testing.assert_close(total, torch.ones(layout.shape), rtol=0, atol=1e-5)


def test_z_scores_of_a_single_value_are_0():
    flat = np.full((1, 4, 4, 4), 7, dtype=np.float32)
    np.testing.assert_array_equal(z_scored(flat), np.zeros_like(flat))


# ------------------------------------------------------------------------------------- the grid


def waves(mm):
    """A smooth function of the place in mm, that tells all axes and directions apart."""
    return 100 + 5 * np.sin(mm[..., 0] / 9) + 0.4 * mm[..., 1] + 0.6 * mm[..., 2]


PLACES = {  # the first two need no interpolation
    "file order": ("NibabelIO", [0.9, 1.4, 1.1], 1e-4),
    "RAS order": ("NibabelIOWithReorient", [1.4, 1.1, 0.9], 1e-4),
    "file order, resampled": ("NibabelIO", [0.8, 1, 1], 0.1),
    "RAS order, resampled": ("NibabelIOWithReorient", [0.8, 1, 1], 0.1),
}


@pytest.mark.parametrize(("reader", "spacing", "tolerance"), PLACES.values(), ids=PLACES)
def test_every_voxel_of_the_network_lies_where_its_affine_says(folder, reader, spacing, tolerance):
    """The image is a function of the place: put into the affine, the places give the image."""
    mm = np.moveaxis(np.indices(nnunet.SHAPE), 0, -1) @ nnunet.AFFINE[:3, :3].T
    data = waves(mm + nnunet.AFFINE[:3, 3]).astype(np.float32)
    data[:3], data[:, -2:] = 0, 0
    affine = nnunet.AFFINE
    for name in ("t1w", "flair"):
        nib.save(nib.Nifti1Image(data, affine), f"{name}.nii.gz")
    chosen = nnunet.configuration(
        normalization_schemes=["NoNormalization"] * 2, use_mask_for_norm=[False] * 2,
        spacing=spacing,
    )  # fmt: skip
    order = {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    nnunet.trained_model(folder / "model", chosen, image_reader_writer=reader, **order)
    files = {name: Path(f"{name}.nii.gz") for name in ("t1w", "flair")}
    case = adapter.for_checkpoint(folder / "model").read(files)
    wanted = waves(case.grid.to_mm(np.moveaxis(np.indices(case.grid.shape) * 1.0, 0, -1)))
    inner = (slice(2, -2),) * 3  # splines bend at the border
    np.testing.assert_allclose(case.image[0][inner], wanted[inner], atol=tolerance)
    np.testing.assert_allclose(case.source_grid.affine, affine, atol=1e-5)
    assert case.foreground.all()
