"""Folders as nnU-Net v2 leaves them after training: small networks with random weights."""

import json
from pathlib import Path

import numpy as np
import torch
from segxai_nnunet.network import build_network

from tests.commandline import write_nifti

SHAPE = (20, 26, 23)
# Inferior, left, anterior, and a little oblique: no axis can be taken for another.
SPACING = (1.1, 0.9, 1.4)
UNETS = "dynamic_network_architectures.architectures.unet."


def oblique(spacing=SPACING, turn=0.1):
    """An affine whose axes lead to I, L and A, turned a little."""
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ [[0, -1, 0], [0, 0, 1], [-1, 0, 0]] * spacing
    affine[:3, 3] = 12, -20, 5
    return affine


AFFINE = oblique()


def architecture(axes=3, name="PlainConvUNet"):
    """Plans of a U-Net of three stages; the first of these strides differs between axes."""
    stages = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": UNETS + name,
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": [[3] * axes] * 3,
            "strides": [[1] * axes, [*[1] * (axes - 2), 2, 2], [2] * axes],
            stages: [2, 1, 2],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(**changes):
    """One configuration of plans, for two channels."""
    resampling = {"order_z": 0, "force_separate_z": None}
    function = "resample_data_or_seg_to_shape"
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16, 16],
        "spacing": [1.4, 0.9, 1.1],
        "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [True, True],
        "resampling_fn_data": function,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg": function,
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": architecture(),
        "batch_dice": False,
    } | changes


def plans(configurations, **changes):
    """The content of plans.json."""
    numbers = {"mean": 80.0, "std": 30.0, "percentile_00_5": 20.0, "percentile_99_5": 150.0}
    return {
        "dataset_name": "Dataset007_Tubers",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": numbers, "1": numbers},
    } | changes


def dataset(**changes):
    """The content of dataset.json."""
    return {
        "channel_names": {"0": "T1w", "1": "FLAIR"},
        "labels": {"background": 0, "tuber": 1, "cyst": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    } | changes


def checkpoint(network, configuration, mirror_axes, trainer="nnUNetTrainer"):
    """What nnU-Net's trainer saves, with its numpy scalars."""
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5)],
            "train_losses": [np.float32(-0.3)],
            "dice_per_class_or_region": [[np.float64(0.4), np.float64(0.6)]],
            "epoch_start_timestamps": [1.5e9],
        },
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {
            "configuration": configuration,
            "fold": 0,
            "device": torch.device("cpu"),
            "unpack_dataset": True,
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": mirror_axes,
    }


def trained_model(
    folder,
    chosen=None,
    *,
    folds=(0,),
    mirror_axes=(0, 1, 2),
    named=None,
    outputs=3,
    **changes,
):
    """A folder with a trained model: one configuration of the plans, its folds."""
    chosen, name = chosen or configuration(), "3d_fullres"
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(plans({name: chosen}, **changes)))
    (folder / "dataset.json").write_text(json.dumps(named or dataset()))
    for fold in folds:
        network = random_network(chosen["architecture"], outputs, fold)
        (folder / f"fold_{fold}").mkdir()
        allowed = mirror_axes and tuple(mirror_axes[: len(chosen["patch_size"])])
        content = checkpoint(network, name, allowed)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def random_network(plans_of_it, outputs, seed):
    """A network whose weights are far from all alike, biases and norms included."""
    network = build_network(plans_of_it, 2, outputs)
    generator = torch.Generator().manual_seed(hash(str(seed)) % 1000 if seed == "all" else seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(noise * 0.3)
    return network.eval()


def images(shape=SHAPE, seed=0):
    """Two smooth positive pictures with a border of zeros, on each side of another width."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        phases = generator.uniform(0, 6, (3, 1, 1, 1))
        waves = np.sin(np.indices(shape) / 4 + phases).sum(axis=0)
        picture = 100 + 20 * waves + generator.normal(0, 3, shape)
        mask = np.zeros(shape)
        mask[1:-3, 2:-1, 3:-2] = 1
        mask[1:6, 2:9, 3:10] = 0  # a corner of the crop
        mask[9:11, 12:14, 13:15] = 0  # a hole
        found.append((picture * mask).astype(np.float32))
    return found


def files(folder, affine=AFFINE, shape=SHAPE):
    """The pictures as NIfTI files, by channel."""
    names = ("t1w", "flair")
    return {
        name: write_nifti(Path(folder) / f"{name}.nii.gz", data, affine)
        for name, data in zip(names, images(shape), strict=True)
    }
