"""Volumes, distances and outcomes do not depend on how a file stores its voxels."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from segxai import Grid, resample, tabulate, working_grid
from tests.commandline import segxai, write_nifti
from tests.toy.segxai_toy import BALLS, picture

SHAPE = (24, 22, 20)
RUN = (
    "run", "--model", "tests.toy.segxai_toy:Toy", "--channels", "bright,other", "--spacing", "1",
    "--class-index", "1", "--min-volume", "3", "--method", "gradient", "bright.nii.gz",
    "other.nii.gz", "--reference", "reference.nii.gz", "--out", "r.h5", "--overwrite",
)  # fmt: skip
SAME = ["outcome", "kind", "volume_mm3", "lesion_load_mm3", "reference_iou", "inside_share"]
DISTANCES = ["bright_peak_distance_mm", "bright_trough_distance_mm"]
TURN = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])


def scene():
    bright, other = picture(SHAPE, BALLS)
    reference = bright > 0.5
    reference[:10, 9:] = False
    reference[8:11, 14:17, 2:4] = True
    return {"bright": bright, "other": other, "reference": reference.astype(np.uint8)}


def explained(images, affine):
    for name, data in images.items():
        write_nifti(f"{name}.nii.gz", data, affine)
    done = segxai(*RUN)
    assert done.status == 0, done.err
    return tabulate("r.h5")


def flipped(data, affine):
    """The same voxels in another order: axes exchanged, one of them backwards."""
    image = nib.Nifti1Image(data, affine)
    axes = nib.orientations.axcodes2ornt(("P", "L", "S"))
    turned = image.as_reoriented(axes)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.filterwarnings("ignore:no --checkpoint")
def test_flipped_and_oblique_files_give_the_same_table(folder):
    images = scene()
    plain = explained(images, np.eye(4))
    assert set(plain["outcome"]) == {"TP", "FP", "FN"}
    moved = {name: flipped(data, np.eye(4)) for name, data in images.items()}
    affine = moved["bright"][1]
    assert not np.allclose(affine, np.eye(4))
    again = explained({name: data for name, (data, _) in moved.items()}, affine)
    columns = [*SAME, *DISTANCES, "centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]
    pd.testing.assert_frame_equal(again[columns], plain[columns], rtol=1e-5)
    oblique = np.eye(4)
    oblique[:3, :3] = TURN
    turned = explained(images, oblique)
    pd.testing.assert_frame_equal(turned[[*SAME, *DISTANCES]], plain[[*SAME, *DISTANCES]])
    centres = plain[["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]].to_numpy() @ TURN.T
    found = turned[["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]].to_numpy()
    np.testing.assert_allclose(found, centres, atol=1e-4)


@pytest.mark.filterwarnings("ignore:no --checkpoint")
def test_anisotropic_voxels_give_the_table_of_the_resampled_data(folder):
    images = scene()
    affine = np.diag([1.0, 1.0, 0.8, 1.0])
    thin = explained(images, affine)
    source = Grid(SHAPE, affine)
    target = working_grid(source, 1.0)
    orders = {"bright": 1, "other": 1, "reference": 0}
    at_once = {
        name: resample(data, source, target, order=orders[name]) for name, data in images.items()
    }
    wanted = explained({n: d.astype(images[n].dtype) for n, d in at_once.items()}, target.affine)
    columns = [*SAME, *DISTANCES]
    pd.testing.assert_frame_equal(thin[columns], wanted[columns], rtol=1e-5)
