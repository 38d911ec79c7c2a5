"""nnU-Net itself, which this project needs for its tests alone."""

import os
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class NnUNet:
    """What is needed of nnU-Net."""

    Predictor: Any
    compute_gaussian: Any
    compute_steps: Any
    pad: Any
    resample: Any


@pytest.fixture(scope="module")
def theirs():
    """nnU-Net, with the folders that it asks for on import; skipped where it is not installed."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is for the tests alone")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, os.environ.get(name, "."))
        from acvl_utils.cropping_and_padding.padding import pad_nd_image
        from nnunetv2.inference import predict_from_raw_data, sliding_window_prediction
        from nnunetv2.preprocessing.resampling.default_resampling import (
            resample_data_or_seg_to_shape,
        )

        yield NnUNet(
            predict_from_raw_data.nnUNetPredictor,
            sliding_window_prediction.compute_gaussian,
            sliding_window_prediction.compute_steps_for_sliding_window,
            pad_nd_image,
            resample_data_or_seg_to_shape,
        )
