"""Preprocessing as the plans say: values, and the place of every voxel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from segxai_nnunet import adapter
from segxai_nnunet.normalisation import normalise_channel
from segxai_nnunet.preprocessing import z_scored

from tests.nnunet import folders as nnunet


def test_z_scores_of_a_single_value_are_0():
    flat = np.full((1, 4, 4, 4), 7, dtype=np.float32)
    np.testing.assert_array_equal(z_scored(flat), np.zeros_like(flat))


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


INTENSITIES = {"mean": 80.0, "std": 30.0, "percentile_00_5": 20.0, "percentile_99_5": 150.0}
RAW = np.array([[0, 0, 50, 100], [150, 200, 30, 0]], dtype=np.float32)
DRAWN = RAW[RAW != 0]
BLACK = {
    "CT, clipped": ("CTNormalization", False, (20 - 80) / 30),
    "none": ("NoNormalization", False, 0),
    "range": ("RescaleTo01Normalization", False, 0),
    "colours": ("RGBTo01Normalization", False, 0),
    "of the whole image": ("ZScoreNormalization", False, -RAW.mean() / RAW.std()),
    "of what is not 0": ("ZScoreNormalization", True, 0),
}


@pytest.mark.parametrize(("scheme", "masked", "wanted"), BLACK.values(), ids=BLACK)
def test_what_background_becomes(scheme, masked, wanted):
    found = normalise_channel(RAW, scheme, RAW != 0 if masked else None, INTENSITIES)
    assert found.black == pytest.approx(wanted, rel=1e-6)
    assert (found.values[RAW == 0] == np.float32(found.black)).all()


def test_a_range_that_ends_above_0_has_black_below_0():
    found = normalise_channel(RAW + 20, "RescaleTo01Normalization", None, {})
    assert found.black == pytest.approx(-20 / 200)


def test_values_are_those_of_the_schemes_formulas():
    """Literal formulas, with the same order of operations: equal to the last bit."""
    shift, scale = np.float32(80), np.float32(30)
    low = RAW.min()
    z_scores = RAW.copy()
    z_scores[RAW != 0] = (DRAWN - DRAWN.mean()) / DRAWN.std()
    wanted = {
        "CTNormalization": (np.clip(RAW, 20, 150) - shift) / scale,
        "NoNormalization": RAW,
        "RescaleTo01Normalization": (RAW - low) / (RAW - low).max(),
        "RGBTo01Normalization": RAW / np.float32(255),
        "ZScoreNormalization": z_scores,
    }
    for scheme, values in wanted.items():
        found = normalise_channel(RAW, scheme, RAW != 0, INTENSITIES).values
        np.testing.assert_array_equal(found, values)
        assert found.dtype == np.float32


def test_a_case_keeps_what_background_becomes(folder):
    """Of both channels: masked, and of the whole image as nnU-Net cropped it."""
    chosen = nnunet.configuration(
        use_mask_for_norm=[True, False], spacing=[1.1, 1.4, 0.9], patch_size=[8, 8, 8]
    )
    model = adapter.for_checkpoint(nnunet.trained_model(folder / "model", chosen))
    case = model.read(nnunet.files(folder))
    assert case.black[0] == 0
    assert case.black[1] < 0
