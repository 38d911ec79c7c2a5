"""The plugin nnunet against nnU-Net itself: the same folder, the same images, the same logits."""

import inspect
import json
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from segxai_nnunet import adapter
from segxai_nnunet.resampling import Resampling

from segxai.segment.inference_mode import frozen
from segxai.segment.mirrored import Mirrored
from tests.literal import worst
from tests.nnunet import folders as nnunet

SMALL, LARGE = [16, 16, 16], [32, 32, 32]  # than the images


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


@pytest.mark.parametrize("spacing", [[2.0, 1.2, 0.9], [1.1, 0.9, 4.0]])
def test_thick_slices_in_the_file_are_resampled_as_by_nnunet(theirs, folder, spacing):
    """Also where voxels are longest along another axis in the plans: the file's axis counts."""
    thick = nnunet.oblique((1.1, 0.9, 5.6))
    nnunet.trained_model(folder / "model", nnunet.configuration(spacing=spacing))
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


def test_what_plans_do_not_say_of_resampling_is_what_nnunet_takes(theirs):
    signature = inspect.signature(theirs.resample)
    for one in fields(Resampling):
        assert one.default == signature.parameters[one.name].default, one.name
