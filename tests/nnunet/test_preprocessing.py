"""Preprocessing as the plans say: values, and the place of every voxel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from segxai_nnunet import adapter
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
