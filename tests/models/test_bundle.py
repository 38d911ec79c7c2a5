"""MONAI bundles from a local folder: network, weights, windows and preprocessing are its own."""

import json
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    Spacingd,
)

from segxai import WholeImage
from segxai.errors import SegxaiError
from segxai.models.bundle import load_bundle
from segxai.models.own_model import OwnModel, adapter_for
from segxai.run.prepare import prepare
from segxai.store.hdf5 import open_result
from segxai.store.schema import group, provenance_of
from tests import literal
from tests.commandline import segxai, use_toys, write_nifti
from tests.literal import seeded
from tests.networks import image_of

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "norm": "instance",
}
STEPS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1, 1, 1], "mode": "bilinear"},
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
    {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
]
CONFIG = {
    "imports": ["$import torch"],
    "bundle_root": "/nowhere",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "preprocessing": {"_target_": "Compose", "transforms": STEPS},
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 16, 16],
        "overlap": 0.5,
        "mode": "gaussian",
    },
}
METADATA = {
    "name": "Lesions of something",
    "version": "0.3.1",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 2, "channel_def": {"0": "FLAIR", "1": "T1"}}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "lesion"}}},
    },
}
SHAPE = (20, 18, 14)


def network():
    return seeded(UNet(3, 2, 2, (4, 8), (2,), norm="instance"))


def bundle(folder, config=CONFIG, metadata=METADATA, *, suffix=".json"):
    """A bundle in a folder."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    dump = json.dumps if suffix == ".json" else yaml.safe_dump
    (folder / "configs" / f"inference{suffix}").write_text(dump(config))
    if metadata is not None:
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.save(network().state_dict(), folder / "models" / "model.pt")
    return folder


def without(*names, **more):
    return {name: value for name, value in CONFIG.items() if name not in names} | more


@pytest.fixture
def images(folder):
    """Two images of one case, turned, with voxels of 2 mm along one axis."""
    affine = np.array([[0, -1, 0, 9], [-1, 0, 0, 4], [0, 0, 2, -3], [0, 0, 0, 1.0]])
    for number, name in enumerate(("flair", "t1")):
        data = np.random.default_rng(number).uniform(1, 9, SHAPE).astype(np.float32)
        data[:3] = 0
        write_nifti(f"{name}.nii.gz", data, affine)
    return {"FLAIR": Path("flair.nii.gz"), "T1": Path("t1.nii.gz")}


def test_a_bundle_that_ends_in_a_softmax_is_refused(folder, images):
    ending = "$torch.nn.Sequential(@unet, torch.nn.Softmax(dim=1))"
    where = bundle(folder / "soft", {**CONFIG, "unet": NETWORK, "network_def": ending})
    soft = torch.nn.Sequential(network(), torch.nn.Softmax(dim=1))
    torch.save(soft.state_dict(), where / "models" / "model.pt")
    with pytest.raises(SegxaiError, match="returns probabilities, which sum to 1"):
        adapter_of(where, images)


def expected_image(images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI itself
        steps = own_steps()
    return steps({"image": [str(path) for path in images.values()]})["image"]


def own_steps():
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS"),
            Spacingd("image", (1, 1, 1), mode="bilinear"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )


def adapter_of(folder, images, **more):
    return adapter_for(OwnModel(bundle=folder, trust=True, **more), None, lambda names: images)


# -------------------------------------------------------------------------------- what it brings


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_bundle_brings_names_windows_and_weights(folder, images, suffix):
    found = load_bundle(bundle(folder / "lesions", suffix=suffix), trust=True)
    assert (found.channels, found.classes) == (("FLAIR", "T1"), ("background", "lesion"))
    assert (found.window, found.overlap, found.notes) == ((16, 16, 16), 0.5, ())
    assert (found.activation, found.name) == ("softmax", "lesions")
    assert found.origin["package"] == "MONAI bundle 'Lesions of something'"
    assert found.origin["version"] == "0.3.1"
    with torch.no_grad():
        image = image_of((2, 16, 16, 16))
        assert torch.equal(found.network(image), network()(image))


def test_its_own_preprocessing_makes_the_input(folder, images):
    adapter = adapter_of(bundle(folder / "lesions"), images)
    case, expected = adapter.read(images), expected_image(images)
    np.testing.assert_array_equal(case.image, expected.numpy())
    np.testing.assert_allclose(case.grid.affine, expected.affine.numpy())
    assert case.grid.spacing == (1, 1, 1)
    assert case.source_grid.shape == SHAPE
    assert case.foreground.shape == case.grid.shape
    assert 0 < case.foreground.mean() < 1
    assert any("the bundle's own preprocessing" in note for note in case.notes)


def test_the_prediction_is_that_of_its_inferer(folder, images):
    from segxai.run.options import Options

    adapter = adapter_of(bundle(folder / "lesions"), images)
    case = adapter.read(images)
    task = prepare(adapter, case, Options.of(device="cpu"))
    inferer = SlidingWindowInferer((16, 16, 16), overlap=0.5, mode="gaussian")
    with torch.no_grad():
        image = torch.from_numpy(case.image)[None]
        assert literal.worst(task.predictor(image), inferer(image, network())) < 1e-5


def test_a_bundle_on_the_command_line(folder, images, monkeypatch):
    use_toys(monkeypatch)
    bundle(folder / "lesions")
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[8:10, 9, 7] = 5
    write_nifti("mask.nii.gz", mask, nib.load("flair.nii.gz").affine)
    words = ("run", "--bundle", "lesions", "flair.nii.gz", "t1.nii.gz", "--out", "r.h5")
    words = (*words, "--instances", "mask.nii.gz", "--method", "gradient", "--rows", "2")
    assert "inference.json" in segxai(*words).error
    done = segxai(*words, "--trust")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        found = provenance_of(group(tree, "/"))
    assert found["plugin"]["name"] == "lesions"
    assert found["weights"]["name"] == "model.pt"
    assert found["window"] == {"size": [16, 16, 16], "overlap": 0.5, "blend": "gaussian"}
    again = segxai("rerun", "r.h5", "--bundle", "lesions", "--trust")
    assert again.status == 0, again.err
    assert "warning" not in again.err
    exported = segxai("export", "r.h5", "maps")
    assert exported.status == 0, exported.err
    assert all(nib.load(path).shape[:3] == SHAPE for path in Path("maps").glob("*.nii.gz"))


def test_a_normalisation_of_the_users_own_takes_the_place_of_the_bundles(folder, images):
    adapter = adapter_of(bundle(folder / "lesions"), images, normalise="z-score")
    case = adapter.read(images)
    assert case.image.shape == (2, *SHAPE)
    assert case.input_unit == "standard deviation"


def test_regions_that_are_sigmoids(folder):
    step = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    post = {"_target_": "Compose", "transforms": [step]}
    found = load_bundle(bundle(folder / "b", without(postprocessing=post)), trust=True)
    assert found.activation == "sigmoid"
    step["sigmoid"] = False
    assert load_bundle(
        bundle(folder / "c", without(postprocessing=post)), trust=True
    ).activation == ("softmax")


def test_windows_that_are_blended_otherwise_are_said(folder):
    inferer = {**CONFIG["inferer"], "mode": "constant"}
    found = load_bundle(bundle(folder / "b", without(inferer=inferer)), trust=True)
    assert found.notes == (
        "the bundle blends its windows with constant weights, segxai with Gaussian ones",
    )


def test_without_metadata_inferer_or_preprocessing(folder, images):
    config = without("preprocessing", "inferer")
    found = load_bundle(bundle(folder / "b", config, None), trust=True)
    assert (found.channels, found.classes, found.window) == ((), (), None)
    with pytest.raises(SegxaiError, match="input channels of b"):
        adapter_of(folder / "b", images)
    adapter = adapter_of(folder / "b", images, channels=("FLAIR", "T1"))
    assert adapter.classes == ("class 0", "class 1")
    assert adapter.predict == WholeImage()


def test_a_module_in_the_bundles_folder(folder):
    root = bundle(folder / "b", without(network_def={"_target_": "bundledscripts.net.make"}))
    (root / "bundledscripts").mkdir()
    (root / "bundledscripts" / "__init__.py").touch()
    (root / "bundledscripts" / "net.py").write_text(
        "from tests.models.test_bundle import network\n\ndef make():\n    return network()\n"
    )
    before = list(sys.path)
    assert load_bundle(root, trust=True).window == (16, 16, 16)
    assert sys.path == before
    sys.modules.pop("bundledscripts.net")
    sys.modules.pop("bundledscripts")


def test_a_checkpoint_instead_of_its_own_weights(folder):
    other = network()
    with torch.no_grad():
        for one in other.parameters():
            one += 0.1
    root = bundle(folder / "b")
    torch.save({"model": other.state_dict()}, folder / "w.pt")
    found = load_bundle(root, folder / "w.pt", trust=True)
    assert found.weights == folder / "w.pt"
    image = image_of((2, 16, 16, 16))
    with torch.no_grad():
        assert torch.equal(found.network(image), other(image))


# --------------------------------------------------------------------------------------- mistakes


def test_nothing_is_built_without_the_word(folder):
    config = without(network_def={"_target_": "os.mkdir", "path": "witness"})
    root = bundle(folder / "b", config)
    with pytest.raises(SegxaiError, match=r"add --trust"):
        load_bundle(root, trust=False)
    assert not Path("witness").exists()
    with pytest.raises(SegxaiError, match="network_def .* NoneType"):
        load_bundle(root, trust=True)
    assert Path("witness").exists()


MISTAKES = {
    "no folder": (None, r"--bundle b is not a folder; give the bundle's own folder"),
    "no network": (without("network_def", "network"), r"the bundle b defines no network"),
    "unknown": (without(network_def={"_target_": "Unett"}), r"network_def of the bundle b fails:"),
    "bad inferer": (without(inferer="$1 / 0"), r"inferer of the bundle b fails:"),
    "other weights": (
        without(network_def={**NETWORK, "channels": [4, 6]}),
        r"checkpoint model\.pt does not fit the bundle b: .* is of shape",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_clear_line(folder, what):
    config, message = MISTAKES[what]
    if config is not None:
        bundle(folder / "b", config)
    with pytest.raises(SegxaiError, match=message) as error:
        load_bundle(Path("b"), trust=True)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_bundle_or_has_no_weights(folder):
    with pytest.raises(SegxaiError, match="no configs/inference"):
        load_bundle(folder, trust=True)
    (bundle(folder / "b") / "models" / "model.pt").unlink()
    with pytest.raises(SegxaiError, match=r"has no weights models/model\.pt"):
        load_bundle(folder / "b", trust=True)


def test_a_configuration_that_cannot_be_read(folder):
    root = bundle(folder / "b")
    (root / "configs" / "inference.json").write_text("{")
    with pytest.raises(SegxaiError, match=r"inference\.json .* fails") as error:
        load_bundle(root, trust=True)
    assert "\n" not in str(error.value)


def test_a_preprocessing_that_fails_names_the_files(folder, images):
    steps = [STEPS[0], {"_target_": "Orientationd", "keys": "picture", "axcodes": "RAS"}]
    config = without(preprocessing={"_target_": "Compose", "transforms": steps})
    adapter = adapter_of(bundle(folder / "b", config), images)
    with pytest.raises(SegxaiError, match=r"fails on flair\.nii\.gz, t1\.nii\.gz: ") as error:
        adapter.read(images)
    assert "\n" not in str(error.value)
