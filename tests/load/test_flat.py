"""2D images of NIfTI, (x, y) or (x, y, 1), for 2D networks."""

import nibabel as nib
import numpy as np
import pytest
import torch

import segxai
from segxai.errors import SegxaiError, SegxaiWarning
from segxai.load.masks import load_mask
from segxai.load.normalisation import find_normalisation
from segxai.load.reader import Reader, read_case
from segxai.load.volumes import is_flat, load_volume
from segxai.store import hdf5
from tests.commandline import write_nifti
from tests.grids import noise

SHAPE = (6, 5)
AFFINE = np.diag([-0.5, -0.7, 1, 1.0])
READER = Reader(("a", "b"), find_normalisation("none", 2))


def files_of(folder, shape, affine=AFFINE):
    image = noise((2, *SHAPE))
    image[:, 0, :2] = 0
    paths = {
        name: write_nifti(folder / f"{name}.nii.gz", one.reshape(shape), affine)
        for name, one in zip("ab", image, strict=True)
    }
    return paths, image


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1), (*SHAPE, 1, 1)])
def test_a_2d_image_is_read_in_the_order_of_the_file(tmp_path, shape):
    files, image = files_of(tmp_path, shape)
    assert is_flat(files["a"])
    case = read_case(READER.read, files)
    np.testing.assert_array_equal(case.image, image)
    assert (case.grid.shape, case.grid.spacing) == (SHAPE, (1, 1))
    assert np.argwhere(~case.foreground).tolist() == [[0, 0], [0, 1]]
    assert case.notes[0].startswith("2D images of NIfTI: the model gets the file's axes in their")
    with pytest.raises(SegxaiError, match="voxels, which is not a 3D volume"):
        load_volume(files["a"], "a")


def test_masks_are_of_the_same_kind(tmp_path):
    files, _ = files_of(tmp_path, SHAPE)
    labels = np.arange(30, dtype=np.int16).reshape(SHAPE)
    mask = write_nifti(tmp_path / "mask.nii.gz", labels[..., None], AFFINE)
    case = read_case(READER.read, files, mask)
    np.testing.assert_array_equal(load_mask(mask, case), labels)
    np.testing.assert_array_equal(case.reference, labels)
    other = write_nifti(tmp_path / "turned.nii.gz", labels.T, AFFINE)
    with pytest.raises(SegxaiError, match="mask turned.nii.gz has 5 x 6 pixels, the picture 6 x 5"):
        load_mask(other, case)


def test_files_of_one_case_must_lie_on_one_another(tmp_path):
    files, _ = files_of(tmp_path, SHAPE)
    moved = AFFINE.copy()
    moved[0, 3] = 0.04
    files["b"] = write_nifti(tmp_path / "b.nii.gz", noise(SHAPE), moved)
    with pytest.warns(SegxaiWarning, match="b file b.nii.gz lies up to 0.04 mm away from a file"):
        READER.read(files)
    moved[0, 3] = 0.06
    write_nifti(tmp_path / "b.nii.gz", noise(SHAPE), moved)
    with pytest.raises(SegxaiError, match=r"b file b.nii.gz \(6 x 5 voxels of 0.5 x 0.7 mm, LP\)"):
        READER.read(files)
    files["b"] = write_nifti(tmp_path / "deep.nii.gz", noise((6, 5, 4)), AFFINE)
    with pytest.raises(SegxaiError, match="has 6 x 5 x 4 voxels, which is not a 2D image, as"):
        READER.read(files)


def test_spacing_is_for_volumes(tmp_path):
    files, _ = files_of(tmp_path, SHAPE)
    reader = Reader(("a", "b"), find_normalisation("none", 2), spacing_mm=1.0)
    with pytest.raises(SegxaiError, match="spacing_mm is for volumes: a file a.nii.gz is 2D"):
        reader.read(files)


def test_a_sagittal_slice_and_a_header_without_a_third_size_are_read(tmp_path):
    sagittal = np.eye(4)[:, [1, 2, 0, 3]] * [0.5, 0.7, 1, 1]
    files, image = files_of(tmp_path, (*SHAPE, 1), sagittal)
    np.testing.assert_array_equal(READER.read(files).image, image)
    bare = nib.Nifti1Image(image[0], None)
    nib.save(bare, tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(image[1], None), tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(READER.read(files).image, image)


def test_a_2d_network_is_explained_on_it(tmp_path):
    files, image = files_of(tmp_path, (*SHAPE, 1))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 2, 3, padding=1)
    adapter = segxai.wrap(network, channels=("a", "b"), classes=("rest", "spot"), window=SHAPE)
    with torch.no_grad():
        network.weight[1] += 1
    options = segxai.Options.of(method="gradient", aggregator="mean")
    task = segxai.prepare(adapter, adapter.read(files), options)
    segxai.explain_case(task, tmp_path / "r.h5")
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None])[0]
    wins = (logits[1] > logits[0]).numpy()
    wanted = np.zeros((2, *SHAPE))
    kernel = network.weight[1].detach().numpy()
    for y, x in np.argwhere(wins):
        for v, u in np.ndindex(3, 3):
            if 0 <= y + v - 1 < 6 and 0 <= x + u - 1 < 5:
                wanted[:, y + v - 1, x + u - 1] += kernel[:, v, u] / wins.sum()
    with hdf5.open_result(tmp_path / "r.h5") as tree:
        stored = segxai.maps(tree, "gradient-mean")
        assert list(stored) == [1]
        one = stored[1].load()
    found = np.zeros((2, *SHAPE))
    found[np.ix_([0, 1], one.y, one.x)] = one["map"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
