"""The lesion plugin on made-up brains: any orientation, masks by label, whole runs."""

import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from segxai_ms_lesion import adapter, network
from segxai_ms_lesion.preprocessing import normalise

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.geometry import Box, Grid
from segxai.instances import balls
from segxai.load.masks import load_mask
from segxai.load.reader import read_case
from segxai.load.resampling import resample, working_grid
from segxai.plugins.registry import load_adapter
from segxai.store.hdf5 import open_result, read_provenance, runs
from segxai.store.reader import maps
from tests.commandline import draw_nothing, segxai, write_nifti
from tests.networks import untrained

SHAPE = (26, 30, 24)
read = partial(read_case, adapter.load_case)
BRAIN = Box((3, 5, 2), (21, 21, 21))  # what differs from 0 in `brains`
RAS = np.array([[1, 0, 0, -12], [0, 1, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]], dtype=float)


def brains():
    """FLAIR and MPRAGE of a ball of brain with two lesions, and the labels of these."""
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    brain = np.linalg.norm(voxels - (13, 15, 12), axis=-1) < 11
    generator = np.random.default_rng(0)
    flair = 100 + generator.normal(0, 5, SHAPE)
    mprage = 200 + generator.normal(0, 8, SHAPE)
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[8:11, 13:16, 11:14], labels[15:19, 12:16, 10:13] = 4, 9
    flair[labels > 0] += 60
    mprage[labels > 0] -= 80
    return (flair * brain).astype(np.float32), (mprage * brain).astype(np.float32), labels


def stored_as(codes, data, name, affine=RAS):
    """A file with the same voxels in another order."""
    start = nib.io_orientation(affine)
    end = nib.orientations.axcodes2ornt(codes)
    image = nib.Nifti1Image(data, affine)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(start, end)), name)
    return Path(name)


@pytest.fixture
def files(folder):
    flair, mprage, labels = brains()
    write_nifti("labels.nii.gz", labels, RAS)
    return {
        "flair": write_nifti(Path("flair.nii.gz"), flair, RAS),
        "mprage": write_nifti(Path("t1.nii.gz"), mprage, RAS),
    }


# ---------------------------------------------------------------------------------------- the case


def test_a_pair_on_the_networks_own_voxels_is_normalised_and_cropped_to_the_brain(files):
    case = read(files)
    expected = np.stack([normalise(image)[BRAIN.index] for image in brains()[:2]])
    np.testing.assert_array_equal(case.image, expected)
    np.testing.assert_array_equal(case.grid.affine[:3, :3], RAS[:3, :3])
    np.testing.assert_array_equal(case.grid.affine[:3, 3], RAS[:3, 3] + BRAIN.start)
    np.testing.assert_array_equal(case.source_grid.affine, RAS)
    foreground = brains()[0] != 0
    np.testing.assert_array_equal(case.foreground, foreground[BRAIN.index])
    assert case.foreground.sum() == foreground.sum()  # nothing of it was cut off
    assert (case.name, case.channels) == ("flair", ("flair", "mprage"))
    assert case.notes == (
        "cropped from 26 x 30 x 24 to 21 x 21 x 21 voxels from voxel (3, 5, 2), where images "
        "differ from 0 for the network; exported on the input's grid",
    )
    assert [(one.role, one.name) for one in case.sources] == [
        ("flair", "flair.nii.gz"),
        ("mprage", "t1.nii.gz"),
    ]
    assert case.input_unit == "standard deviation"
    assert case.image.dtype == np.float32
    assert case.black == (0, 0)
    assert (case.image[:, ~case.foreground] == 0).all()


def test_the_crop_holds_the_brain_of_both_images(files):
    flair, mprage, _ = brains()
    flair[13:], mprage[:10] = 0, 0  # each shows a part of it
    write_nifti("flair.nii.gz", flair, RAS)
    write_nifti("t1.nii.gz", mprage, RAS)
    assert read(files).grid.shape == BRAIN.size


def test_an_image_without_background_is_taken_whole(files):
    """Also one in which a single voxel is 0."""
    flair, mprage, _ = (one + 100 for one in brains())
    flair[0, 0, 0] = mprage[0, 0, 0] = 0
    write_nifti("flair.nii.gz", flair, RAS)
    write_nifti("t1.nii.gz", mprage, RAS)
    case = read(files)
    assert (case.grid.shape, case.notes) == (SHAPE, ())


@pytest.mark.parametrize("role", ["mask", "reference"])
def test_what_is_drawn_outside_of_the_brain_is_left_out_with_a_warning(files, role):
    labels = brains()[2]
    labels[8:11, :7, 11:14] = 4  # 2 of 7 planes lie in the box
    mask = write_nifti(Path("l.nii.gz"), labels, RAS)
    words = f"45 of the 138 voxels drawn in {role} l.nii.gz lie outside .*21 x 21 x 21 voxels"
    with pytest.warns(SegxaiWarning, match=words):
        drawn = load_mask(mask, read(files)) if role == "mask" else read(files, mask).reference
    np.testing.assert_array_equal(drawn, labels[BRAIN.index])


def test_a_label_or_a_sphere_outside_of_the_brain_is_refused(files):
    case, labels = read(files), brains()[2]
    labels[0, 0, 0] = 7
    mask = write_nifti(Path("l.nii.gz"), labels, RAS)
    with pytest.raises(SegxaiError, match="label 7 is lost .* lies where the network sees nothing"):
        load_mask(mask, case)
    with pytest.raises(SegxaiError, match=r"no voxel centre lies within 1 mm .* the image reaches"):
        balls([(*RAS[:3, 3], 1.0)], case.grid, 1)


@pytest.mark.parametrize("codes", ["LPI", "SRA", "PIR"])
def test_the_orientation_of_the_files_does_not_matter(files, codes):
    expected = read(files, Path("labels.nii.gz"))
    flair, mprage, labels = brains()
    turned = {
        "flair": stored_as(codes, flair, "f.nii"),
        "mprage": stored_as(codes, mprage, "m.nii"),
    }
    mask = stored_as(codes, labels, "l.nii")
    case = read(turned, mask)
    np.testing.assert_array_equal(case.image, expected.image)
    np.testing.assert_array_equal(case.reference, expected.reference)
    np.testing.assert_array_equal(case.reference, labels[BRAIN.index])
    np.testing.assert_allclose(case.grid.affine, Grid(SHAPE, RAS).part(BRAIN).affine, atol=1e-9)
    assert nib.aff2axcodes(case.source_grid.affine) == tuple(codes)
    (note,) = case.notes
    assert note.startswith(f"reoriented {codes} -> RAS; cropped from 26 x 30 x 24 to 21 x 21 x 21")
    np.testing.assert_array_equal(load_mask(mask, case), labels[BRAIN.index])


def test_other_voxels_are_brought_to_1_mm(files):
    flair, mprage, labels = brains()
    affine = RAS @ np.diag([0.8, 1.3, 2, 1])
    for name, data in (("flair", flair), ("t1", mprage), ("labels", labels)):
        write_nifti(f"{name}.nii.gz", data, affine)
    case = read(files, Path("labels.nii.gz"))
    assert case.grid.spacing == pytest.approx((1, 1, 1))
    working = working_grid(case.source_grid)
    assert working.shape == (21, 39, 48)
    np.testing.assert_allclose(case.source_grid.affine, affine, atol=1e-6)
    source = case.source_grid  # the file's, rounded to float32
    moved = resample(flair, source, working, order=1)
    box = Box.holding(moved != 0)
    assert case.grid.shape == box.size
    np.testing.assert_allclose(case.image[0], normalise(moved)[box.index], atol=1e-5)
    np.testing.assert_array_equal(
        load_mask(Path("labels.nii.gz"), case),
        resample(labels.astype(np.int32), source, working, order=0)[box.index],
    )
    (note,) = case.notes
    assert "resampled 0.8 x 1.3 x 2 mm -> 1 mm (linear)" in note


def test_files_on_different_grids_are_refused(files):
    write_nifti("t1.nii.gz", brains()[1], RAS + 0.5 * np.eye(4, k=3))
    with pytest.raises(SegxaiError, match=r"t1.nii.gz .* 0.5 mm"):
        read(files)


def test_a_mask_on_another_grid_is_refused(files):
    case = read(files)
    write_nifti("labels.nii.gz", brains()[2][:, :, :-1], RAS)
    with pytest.raises(SegxaiError, match=r"mask labels.nii.gz is 26 x 30 x 23"):
        load_mask(Path("labels.nii.gz"), case)
    with pytest.raises(SegxaiError, match=r"reference labels.nii.gz is 26 x 30 x 23"):
        read(files, Path("labels.nii.gz"))


def test_a_label_that_the_networks_grid_is_too_coarse_for_is_refused(files):
    flair, mprage, labels = brains()
    fine = RAS @ np.diag([0.3, 0.3, 0.3, 1])
    labels[...] = 0
    labels[2:20, 2:20, 2:20], labels[22, 22, 22] = 1, 5
    for name, data in (("flair", flair), ("t1", mprage), ("labels", labels)):
        write_nifti(f"{name}.nii.gz", data, fine)
    case = read(files)
    words = "labels.nii.gz: label 5 is lost on the network's grid of"
    with pytest.raises(SegxaiError, match=words):
        load_mask(Path("labels.nii.gz"), case)


def test_a_brain_is_predicted_in_one_window_and_a_head_in_several():
    made = load_adapter("ms_lesion")
    for shape, windows in (((128, 164, 121), 1), ((182, 218, 182), 8)):
        assert len(made.predict.layout(shape).windows) == windows
    papers = adapter.segxai_adapter(Path("own.pt")).predict.layout((128, 164, 121))
    assert {one.size for one in papers.windows} == {(96, 96, 96)}


def test_the_embedded_case_has_no_warnings():
    case = load_adapter("ms_lesion").embedded_case()
    assert case.name == "embedded"
    assert case.warnings == ()
    assert case.reference.any()
    assert case.notes[0].startswith("cropped from 144 x 168 x 96 to ")


# --------------------------------------------------------------------------------- the command line

QUICK = ("--method", "gradient", "--aggregator", "mean", "--checkpoint", "tiny.pt")
PAIR = ("run", "--plugin", "ms_lesion", "mprage=t1.nii.gz", "flair=flair.nii.gz", *QUICK)


@pytest.fixture
def tiny(files, monkeypatch):
    """A pair in another orientation and voxel size, and a checkpoint that is fast."""
    draw_nothing(monkeypatch)
    torch.save({"state_dict": untrained(network.unet, (2, 4, 4)).state_dict()}, "tiny.pt")
    affine = RAS @ np.diag([-1, 1.25, -1.5, 1])
    for name, data in zip(("flair", "t1", "labels"), brains(), strict=True):
        write_nifti(f"{name}.nii.gz", data, affine)
    return affine


def test_a_run_on_a_pair_of_files_from_the_image_to_the_export(tiny):
    reference = ("--reference", "labels.nii.gz", "--reference-label", "all")
    options = (*reference, "--instances", "labels.nii.gz", "--out", "r.h5")
    done = segxai(*PAIR, *options)
    assert done.status == 0, done.err
    assert "reoriented LAI -> RAS; resampled" in done.err
    assert "2 of 2 instances" in done.err
    stored = read_provenance(Path("r.h5"))
    assert stored["weights"]["name"] == "tiny.pt"
    assert [one["role"] for one in stored["case"]["sources"]] == ["flair", "mprage", "reference"]
    assert stored["target"]["instances"]["name"] == "labels.nii.gz"
    window = {"size": [96, 96, 96], "overlap": 0.25, "blend": "gaussian", "evenly": True}
    assert stored["window"] == window
    assert "cropped from" in stored["case"]["notes"][0]
    with open_result("r.h5") as tree:
        assert tree["instances/label"].values.tolist() == [4, 9]
        assert maps(tree, "gradient-mean")[9]["map"].dims == ("channel", "x", "y", "z")
    assert segxai("export", "r.h5", "maps").status == 0
    found = nib.load("maps/gradient-mean-9-mprage.nii.gz")
    assert found.shape == SHAPE
    np.testing.assert_allclose(found.affine, tiny, atol=1e-5)
    assert np.abs(found.get_fdata()).max() > 0
    labels = np.asarray(nib.load("maps/labels.nii.gz").dataobj)
    agreement = (labels == brains()[2])[brains()[2] > 0].mean()
    assert agreement > 0.9
    assert "the run used the weights tiny.pt" in segxai("rerun", "r.h5").error
    shutil.move("tiny.pt", "moved.pt")
    done = segxai("rerun", "r.h5", "--checkpoint", "moved.pt")
    assert done.status == 0, done.err
    assert "weights name is 'tiny.pt'" not in done.err


@pytest.mark.filterwarnings("always::segxai.errors.SegxaiWarning")
def test_guards_speak_on_stderr_and_stay_in_the_file(tiny):
    for name, data in zip(("flair", "t1"), brains(), strict=False):
        write_nifti(f"{name}.nii.gz", normalise(data), tiny)
    done = segxai(*PAIR, "--instances", "labels.nii.gz", "--out", "r.h5")
    assert done.status == 0, done.err
    said = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert any("FLAIR seems" in line for line in said)
    kept = read_provenance(Path("r.h5"))["case"]["warnings"]
    assert [f"warning: {text}" for text in kept] == said[: len(kept)]


@pytest.mark.filterwarnings("always::segxai.errors.SegxaiWarning")
def test_swapped_lesion_contrast_is_told_and_stays_in_the_file(tiny):
    swapped = ("run", "--plugin", "ms_lesion", "t1.nii.gz", "flair.nii.gz", *QUICK)
    done = segxai(*swapped, "--instances", "labels.nii.gz", "--out", "r.h5")
    assert done.status == 0, done.err
    assert "warning: FLAIR is" in done.err
    assert "flair=FILE mprage=FILE" in done.err
    kept = runs(Path("r.h5"))["gradient-mean"]["warnings"]
    assert [text for text in kept if "channels look swapped" in text]


def test_the_default_layer_shows_every_lesion_that_the_network_finds(folder):
    """At other layers the denominators of Grad-CAM++ can leave a lesion without any heat."""
    done = segxai("run", "--plugin", "ms_lesion", "--method", "gradcam++", "--out", "r.h5")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        outcomes = tree["instances/outcome"].values
        for label in (np.flatnonzero(outcomes == "TP") + 1).tolist():
            stored = maps(tree, "gradcam++")[label]
            heat, domain = stored["map"].values, np.argwhere(stored["domain"].values)
            hottest = np.unravel_index(heat.argmax(), heat.shape)
            assert heat.max() > 0
            assert np.linalg.norm(domain - hottest, axis=1).min() < 8
