"""Folders of nnU-Net: what is read from them, and what of them is refused."""

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from segxai_nnunet import adapter
from segxai_nnunet.folder import open_model
from segxai_nnunet.network import Ensemble, build_network

from segxai import InstanceCriteria
from segxai.errors import SegxaiError
from segxai.load.masks import load_mask
from segxai.load.resampling import resample
from tests.commandline import write_nifti
from tests.nnunet import folders as nnunet


@pytest.fixture
def model(folder):
    return nnunet.trained_model(folder / "model")


def change(path, **changes):
    """Other entries in a JSON file; None takes one out."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))


def change_configuration(model, **changes):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"].update(changes)
    (model / "plans.json").write_text(json.dumps(plans))


# ------------------------------------------------------------------------------------ what is read


def test_the_adapter_says_what_the_folder_says(model):
    made = adapter.for_checkpoint(model)
    assert made.channels == ("t1w", "flair")
    assert made.classes == ("background", "tuber", "cyst")
    assert made.criteria == InstanceCriteria(1, threshold=None)
    assert made.mirror_axes == (0, 1, 2)
    assert made.notes[0] == ("nnU-Net 3d_fullres of Dataset007_Tubers, fold_0/checkpoint_final.pth")
    assert "mirror images (axes 0, 1, 2)" in made.notes[1]
    assert "8 times as long" in made.notes[1]
    assert made.weights == model / "fold_0/checkpoint_final.pth"


NAMES = {
    "words": ({"0": "T2 weighted", "1": "ADC (b=1000)"}, ("t2_weighted", "adc_b_1000")),
    "order of numbers": ({"1": "b", "0": "a"}, ("a", "b")),
    "alike": ({"0": "noNorm", "1": "nonorm"}, ("nonorm_1", "nonorm_2")),
    "no letters": ({"0": "?", "1": "b"}, ("channel", "b")),
}


@pytest.mark.parametrize(("names", "words"), NAMES.values(), ids=NAMES)
def test_channels_have_names_that_can_be_typed(model, names, words):
    change(model / "dataset.json", channel_names=names)
    assert adapter.for_checkpoint(model).channels == words


def test_an_older_dataset_names_modalities(model):
    change(model / "dataset.json", channel_names=None, modality={"0": "T1", "1": "T2"})
    assert adapter.for_checkpoint(model).channels == ("t1", "t2")


def test_classes_follow_their_values_and_an_ignored_label_is_none(model):
    labels = {"cyst": 2, "background": 0, "tuber": 1, "ignore": 3}
    change(model / "dataset.json", labels=labels)
    assert adapter.for_checkpoint(model).classes == ("background", "tuber", "cyst")


UNITS = {
    "standard deviation": ["ZScoreNormalization"] * 2,
    "standard deviation of the training foreground": ["CTNormalization"] * 2,
    "intensity in the file": ["NoNormalization"] * 2,
    "unit of the channel (range of the image, standard deviation)": [
        "RescaleTo01Normalization",
        "ZScoreNormalization",
    ],
}


@pytest.mark.parametrize(("unit", "schemes"), UNITS.items(), ids=UNITS)
def test_the_unit_is_that_of_the_normalisation(model, unit, schemes):
    change_configuration(model, normalization_schemes=schemes, use_mask_for_norm=[False] * 2)
    assert adapter.for_checkpoint(model).read(nnunet.files(".")).input_unit == unit


def test_mirror_axes_of_a_network_of_slices_are_those_of_the_grid(folder):
    chosen = nnunet.configuration(
        architecture=nnunet.architecture(2), patch_size=[16, 20], spacing=[1, 1]
    )
    made = adapter.for_checkpoint(nnunet.trained_model(folder / "m", chosen, mirror_axes=(0, 1)))
    assert made.mirror_axes == (1, 2)


def test_without_mirroring_in_training_there_is_none(folder):
    made = adapter.for_checkpoint(nnunet.trained_model(folder / "m", mirror_axes=None))
    assert made.mirror_axes == ()
    assert len(made.notes) == 1


def test_a_configuration_inherits_from_others(model):
    plans = json.loads((model / "plans.json").read_text())
    known = plans["configurations"]
    known["base"] = {**known["3d_fullres"], "patch_size": [8, 8, 8], "spacing": [2, 2, 2]}
    known["middle"] = {"inherits_from": "base", "spacing": [3, 3, 3]}
    known["3d_fullres"] = {"inherits_from": "middle", "patch_size": [16, 8, 16]}
    (model / "plans.json").write_text(json.dumps(plans))
    found = open_model(model).plans
    assert (found.patch, found.spacing) == ((16, 8, 16), (3, 3, 3))


def test_a_trainer_of_ones_own_is_told(model):
    path = model / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainer_250epochs"}, path)
    notes = adapter.for_checkpoint(model).notes
    assert notes[-1].startswith("trained by nnUNetTrainer_250epochs; the network is built from")


# ----------------------------------------------------------------------------------------- folds


def test_all_folds_are_taken_one_can_be_picked_and_all_the_data_comes_last(folder):
    model = nnunet.trained_model(folder / "model", folds=(0, 3, "all"))
    made = adapter.for_checkpoint(model)
    network = made.load_network()
    assert isinstance(network, Ensemble)
    assert len(network.folds) == 2
    assert "fold_0/checkpoint_final.pth, fold_3/checkpoint_final.pth: the mean" in made.notes[0]
    best = model / "fold_3/checkpoint_best.pth"
    (model / "fold_3/checkpoint_final.pth").rename(best)
    assert open_model(best).checkpoints == (best,)
    assert open_model(model).checkpoints == (model / "fold_0/checkpoint_final.pth",)
    picked = model / "fold_all"
    assert open_model(picked).checkpoints == (picked / "checkpoint_final.pth",)
    (model / "fold_0/checkpoint_final.pth").unlink()
    assert open_model(model).checkpoints == (picked / "checkpoint_final.pth",)


def test_a_fold_is_found_from_within_it(model, monkeypatch):
    monkeypatch.chdir(model / "fold_0")
    for path in (Path(), Path("checkpoint_final.pth")):
        assert adapter.for_checkpoint(path).classes == ("background", "tuber", "cyst")


def test_the_note_on_several_folds_tells_their_weights_apart(folder):
    model = nnunet.trained_model(folder / "model", folds=(0, 1))
    before = adapter.for_checkpoint(model).notes
    path = model / "fold_1/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "current_epoch": 7}, path)
    assert adapter.for_checkpoint(model).notes[0] != before[0]


# -------------------------------------------------------------------------------------- the grid


def test_masks_come_to_the_networks_grid_and_maps_back(folder):
    """Labels of places: what is drawn in the file is found at the same millimetres."""
    model = nnunet.trained_model(folder / "model", transpose_forward=[1, 2, 0])
    labels = np.zeros(nnunet.SHAPE, dtype=np.int16)
    labels[4:8, 5:9, 6:12], labels[10:13, 18:22, 14:17] = 2, 5
    write_nifti("labels.nii.gz", labels, nnunet.AFFINE)
    made = adapter.for_checkpoint(model)
    case = made.read(nnunet.files(folder), Path("labels.nii.gz"))
    mask = load_mask(Path("labels.nii.gz"), case)
    np.testing.assert_array_equal(case.reference, mask)
    for label in (2, 5):
        drawn = nnunet.AFFINE[:3, :3] @ np.argwhere(labels == label).mean(axis=0)
        centre = case.grid.to_mm(np.argwhere(mask == label).mean(axis=0))
        np.testing.assert_allclose(centre, drawn + nnunet.AFFINE[:3, 3], atol=0.4)
    back = resample(mask, case.grid, case.source_grid, order=0)
    assert (back == labels)[labels > 0].mean() > 0.9
    assert [one.role for one in case.sources] == ["t1w", "flair", "reference"]


def test_what_was_done_to_the_grid_is_told(model):
    case = adapter.for_checkpoint(model).read(nnunet.files("."))
    assert case.name == "t1w"
    assert case.notes == (
        "reoriented ILA -> ALI; cropped from 23 x 26 x 20 to 18 x 23 x 16 voxels from voxel "
        "(3, 2, 1), where images differ from 0 for the network; exported on the input's grid",
    )


def test_the_foreground_is_what_differs_from_0_and_what_that_encloses(folder):
    model = nnunet.trained_model(folder / "model", image_reader_writer="NibabelIO")
    case = adapter.for_checkpoint(model).read(nnunet.files(folder))
    wanted = (nnunet.images()[0] != 0).astype(np.int32)
    wanted[9:11, 12:14, 13:15] = 1
    ours = resample(case.foreground.astype(np.int32), case.grid, case.source_grid, order=0)
    np.testing.assert_array_equal(ours, wanted)
    assert not case.foreground.all()


def test_a_voxel_size_in_the_header_that_is_not_the_affines_is_told(model):
    for path in nnunet.files(".").values():
        image = nib.load(path)
        image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
        image.header["pixdim"][2] = 2.0
        image.to_filename(path)
    files = {name: Path(f"{name}.nii.gz") for name in ("t1w", "flair")}
    for path in files.values():
        raw = nib.load(path)
        raw.header.set_zooms((1.1, 2.0, 1.4))
        nib.Nifti1Image(np.asarray(raw.dataobj), None, raw.header).to_filename(path)
    (warning,) = adapter.for_checkpoint(model).read(files).warnings
    assert "1.1 x 2 x 1.4 mm in its header, but 1.1 x 0.9 x 1.4 mm" in warning


# -------------------------------------------------------------------------------- what is refused


def refusal(path):
    """The one line that says why a model cannot be used."""
    with pytest.raises(SegxaiError) as caught:
        adapter.for_checkpoint(Path(path)).load_network()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_plans_is_refused(folder, model):
    (folder / "empty").mkdir()
    assert "no trained model in empty" in refusal("empty")
    assert refusal(".").endswith("it has no plans.json; did you mean model?")
    assert "no checkpoint at missing" in refusal("missing")


def test_a_folder_without_a_fold_is_refused(model):
    path = model / "fold_0/checkpoint_final.pth"
    path.rename(model / "fold_0/checkpoint_latest.pth")
    assert "no fold_*/checkpoint_final.pth" in refusal(model)
    assert "fold_0/checkpoint_latest.pth" in refusal(model)
    assert "no checkpoint_final.pth in" in refusal(model / "fold_0")
    (model / "fold_0/checkpoint_latest.pth").unlink()
    assert "is the training finished?" in refusal(model)
    assert "is the training finished?" in refusal(model / "fold_0")


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_json_that_is_none_is_refused(model, name):
    for text in ("{", "[1]", ""):
        (model / name).write_text(text)
        assert name in refusal(model)
    (model / name).write_text("{}")
    assert f"{name} is not a " in refusal(model)
    (model / name).unlink()
    assert "no plans.json" in refusal(model) if name == "plans.json" else refusal(model)


NO_CHECKPOINTS = {
    "no pickle": (lambda path: path.write_text("hello"), "cannot read the checkpoint"),
    "a list": (lambda path: torch.save([1], path), "holds a list"),
    "other weights": (lambda path: torch.save({"a": torch.ones(2)}, path), "has no 'network_wei"),
    "code": (lambda path: path.write_bytes(pickle.dumps(print)), "could run code on loading"),
    "an object": (lambda path: torch.save({"network_weights": Path("x")}, path), "could run code"),
}


@pytest.mark.parametrize(("write", "words"), NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_a_checkpoint_that_is_none_is_refused(model, write, words):
    write(model / "fold_0/checkpoint_final.pth")
    assert words in refusal(model)


def test_no_more_of_numpy_is_let_in_than_its_numbers(model):
    """Arrays of objects are pickles in themselves."""
    path = model / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "logging": np.array([print], dtype=object)}, path)
    assert "could run code" in refusal(model)


def test_weights_of_another_network_are_refused(model):
    changed = nnunet.architecture()
    changed["arch_kwargs"]["features_per_stage"] = [4, 8, 12]
    change_configuration(model, architecture=changed)
    words = refusal(model)
    assert "2 channels and 3 outputs: 'decoder." in words
    assert "your own trainer may build another" in words


def test_a_configuration_that_is_not_in_the_plans_is_refused(model):
    plans = json.loads((model / "plans.json").read_text())
    change(model / "plans.json", configurations={"2d": plans["configurations"]["3d_fullres"]})
    assert "unknown configuration '3d_fullres'; known: 2d" in refusal(model)


def test_a_circle_of_configurations_is_refused(model):
    change_configuration(model, inherits_from="3d_fullres")
    assert "configurations inherit in a circle, 3d_fullres > 3d_fullres" in refusal(model)


def test_a_cascade_is_refused(model):
    change_configuration(model, previous_stage="3d_lowres")
    assert "'3d_fullres' is a cascade" in refusal(model)


UNSUPPORTED = {
    "normalization_schemes": ["ZScoreNormalization", "MyNormalization"],
    "preprocessor_name": "MyPreprocessor",
    "resampling_fn_data": "resample_torch_fornnunet",
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_is_done_otherwise_is_refused(model, key):
    change_configuration(model, **{key: UNSUPPORTED[key]})
    found = UNSUPPORTED[key]
    name = found if isinstance(found, str) else found[-1]
    assert f"plans.json: {key} is {name!r}" in refusal(model)


@pytest.mark.parametrize("reader", ["NaturalImage2DIO", "Tiff3DIO", "os.system"])
def test_another_reader_is_refused(model, reader):
    change(model / "plans.json", image_reader_writer=reader)
    assert f"image_reader_writer is {reader!r}" in refusal(model)


@pytest.mark.parametrize("key", ["patch_size", "resampling_fn_data_kwargs", "architecture"])
def test_damaged_plans_are_refused(model, key):
    change_configuration(model, **{key: "?"})
    assert "'3d_fullres' is damaged" in refusal(model)


def test_ct_without_the_numbers_of_the_training_data_is_refused(model):
    change_configuration(model, normalization_schemes=["CTNormalization"] * 2)
    change(model / "plans.json", foreground_intensity_properties_per_channel={"0": {"mean": 1}})
    assert "KeyError:" in refusal(model)


def test_channels_that_do_not_fit_the_plans_are_refused(model):
    change(model / "dataset.json", channel_names={"0": "a", "1": "b", "2": "c"})
    assert "normalises 2 channels, but dataset.json names 3: a, b, c" in refusal(model)


@pytest.mark.parametrize(
    "labels", [{}, {"background": 0}, {"a": "b"}, None, {"background": 0, "ignore": 1}]
)
def test_a_dataset_without_a_class_is_refused(model, labels):
    change(model / "dataset.json", labels=labels)
    assert "dataset.json" in refusal(model)


CLASSES = {
    "another package": "os.system",
    "another module": "segxai_nnunet.network.Ensemble",
    "the name alone": "PlainConvUNet",
    "a module of the same name": "evil.architectures.unet.PlainConvUNet",
    "another network": "dynamic_network_architectures.architectures.primus.PrimusS",
}


@pytest.mark.parametrize("name", CLASSES.values(), ids=CLASSES)
def test_a_network_that_is_not_known_is_refused_and_nothing_imported(model, name):
    change_configuration(model, architecture={**nnunet.architecture(), "network_class_name": name})
    words = refusal(model)
    assert f"unknown network {name!r}" in words
    assert "dynamic_network_architectures only" in words


@pytest.mark.parametrize("key", ["conv_op", "nonlin"])
def test_a_layer_that_is_not_known_is_refused(model, key):
    changed = nnunet.architecture()
    changed["arch_kwargs"][key] = "subprocess.Popen"
    change_configuration(model, architecture=changed)
    assert "unknown layer of a network 'subprocess.Popen'; known: " in refusal(model)


def test_arguments_that_the_network_does_not_take_are_refused():
    changed = nnunet.architecture()
    changed["arch_kwargs"]["n_conv_per_stage"] = [1]
    with pytest.raises(SegxaiError, match="PlainConvUNet .*: n_conv_per"):
        build_network(changed, 2, 2)


def test_colours_outside_of_0_to_255_are_refused(model):
    change_configuration(model, normalization_schemes=["RGBTo01Normalization"] * 2)
    made, files = adapter.for_checkpoint(model), nnunet.files(".")
    write_nifti(files["flair"], nnunet.images()[1] * 3, nnunet.AFFINE)
    with pytest.raises(SegxaiError, match=r"RGBTo01Norm"):
        made.read(files)


def test_a_label_where_the_image_was_cut_off_is_refused(model):
    labels = np.zeros(nnunet.SHAPE, dtype=np.uint8)
    labels[10, 10, 10], labels[0, 0, 0] = 1, 4
    write_nifti("labels.nii.gz", labels, nnunet.AFFINE)
    made = adapter.for_checkpoint(model)
    case = made.read(nnunet.files("."))
    with pytest.raises(SegxaiError, match="label 4 is lost .* 18 x 23 x 16"):
        load_mask(Path("labels.nii.gz"), case)


def test_images_on_different_grids_are_refused(model):
    files = nnunet.files(".")
    write_nifti(files["flair"], nnunet.images()[1][:-1], nnunet.AFFINE)
    with pytest.raises(SegxaiError, match="share a grid"):
        adapter.for_checkpoint(model).read(files)


def test_a_model_of_ones_own_has_no_embedded_case(model):
    with pytest.raises(SegxaiError, match="no embedded case; give it images"):
        adapter.for_checkpoint(model).embedded_case()
