"""The door for everybody's own model: named, wrapped, run, repeated; and mistakes on the way."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import segxai as public
from segxai.models.own_model import OwnModel, adapter_for
from segxai.pipeline import explain_case
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.segment.weights import tensors_sha256
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from segxai.store.schema import group, provenance_of
from tests import literal, markdown
from tests.commandline import assert_same, segxai, snapshot
from tests.literal import seeded
from tests.models.own_networks import MODULE
from tests.networks import image_of, net2d
from tests.toy.segxai_toy import SHAPE, Toy

PAGE = markdown.ROOT / "docs" / "how-to" / "explain-your-own-model.md"
OWN = ("run", "--model", "ownnets:network", "--channels", "bright,other")
FILES = ("bright.nii.gz", "other.nii.gz")
PHOTO = ("run", "--model", "ownnets:photo", "--channels", "red,green,blue")
QUICK = ("--method", "gradient", "--aggregator", "mean", "--instances", "1")


pytestmark = pytest.mark.usefixtures("toys")


def wrapped(network, **more):
    return public.wrap(network, channels=("bright", "other"), **{"shape": SHAPE, **more})


# --------------------------------------------------------------------------------- the whole way


def test_a_factory_is_explained_as_the_plugin_of_the_same_network(case):
    named = ("--classes", "rest,ball", "--threshold", "0.5", "--min-volume", "3")
    own = segxai(*OWN, *named, *FILES, *QUICK, "--out", "own.h5")
    assert own.status == 0, own.err
    plugin = segxai("run", "--plugin", "toy", *FILES, *QUICK, "--out", "plugin.h5")
    assert plugin.status == 0, plugin.err
    assert_same(snapshot("own.h5"), snapshot("plugin.h5"))


def test_the_result_says_what_the_model_was(case):
    done = segxai(*OWN, *FILES, *QUICK)
    assert done.status == 0, done.err
    with open_result("network_bright.h5") as tree:
        found = provenance_of(group(tree, "/"))["plugin"]
    assert found.pop("tensors_sha256") == tensors_sha256(Toy())
    assert found.pop("sha256")
    assert found == {
        "name": "ownnets:network",
        "package": "ownnets",
        "version": "unknown",
        "file": "ownnets.py",
        "options": {"classes": ["class 0", "class 1"], "divisor": 1},
    }


def test_what_was_assumed_is_said(case):
    err = segxai(*OWN, *FILES, *QUICK).err
    for text in (
        "not normalised: the model gets values from",
        "not reoriented or resampled: the model gets RAS voxels of 1 x 1 x 1 mm",
        "no --checkpoint: the weights are those that ownnets:network makes",
        "the model has 2 classes (counted in a trial run): name them with --classes",
        "the default class is the last one: class 1",
    ):
        assert text in err, err


def test_the_same_command_goes_on_and_rerun_repeats(case):
    words = (*OWN, *FILES, *QUICK, "--out", "r.h5")
    assert segxai(*words).status == 0
    again = segxai(*words)
    assert again.status == 0, again.err
    assert "nothing left to do" in again.err
    repeated = segxai("rerun", "r.h5", "--model", "ownnets:network")
    assert repeated.status == 0, repeated.err
    assert "warning" not in repeated.err


def test_rerun_imports_nothing_that_only_the_file_names(case):
    assert segxai(*OWN, *FILES, *QUICK, "--out", "r.h5").status == 0
    sys.modules.pop("ownnets")
    error = segxai("rerun", "r.h5").error
    assert "ownnets:network" in error
    assert "ownnets" not in sys.modules


def test_rerun_with_other_weights_says_so(case):
    assert segxai(*OWN, *FILES, *QUICK, "--out", "r.h5").status == 0
    louder = "made = Toy()\n    made.logits.bias.data += 1\n    return made"
    other = MODULE.replace("return Toy()\n\ndef strided", f"{louder}\n\ndef strided")
    Path("ownnets.py").write_text(other)
    sys.modules.pop("ownnets")
    done = segxai("rerun", "r.h5", "--model", "ownnets:network")
    assert "warning: plugin" in done.err


def test_random_weights_cannot_be_mixed_in_one_file(case):
    Path("ownnets.py").write_text("from torch import nn\n\ndef network():\n"
                                  "    return nn.Conv3d(2, 2, 3, padding=1)\n")  # fmt: skip
    words = (*OWN, *FILES, *QUICK, "--out", "r.h5")
    assert segxai(*words, "--threshold", "0.4").status == 0
    assert "tensors_sha256" in segxai(*words, "--threshold", "0.4").error


def test_a_checkpoint_fills_the_factory(case):
    network = Toy()
    with torch.no_grad():
        network.logits.bias += 0.25
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in
                                           network.state_dict().items()}}, "w.pt")  # fmt: skip
    words = (*OWN, "--checkpoint", "w.pt", *FILES, *QUICK, "--out", "r.h5")
    done = segxai(*words)
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        provenance = provenance_of(group(tree, "/"))
        stored = tree["segmentation"].to_dataset()["probability"].values
    assert provenance["weights"]["name"] == "w.pt"
    assert "tensors_sha256" not in provenance["plugin"]
    case_ = public.wrap(network, channels=("bright", "other"), shape=SHAPE).read(
        dict(zip(("bright", "other"), map(Path, FILES), strict=True))
    )
    with torch.no_grad():
        wanted = network(torch.from_numpy(case_.image)[None])[0].softmax(dim=0)
    assert stored.shape[0] == 1  # that of the class that is explained, in half precision
    assert literal.worst(stored[0], wanted[1]) < 5e-4
    again = segxai("rerun", "r.h5", "--model", "ownnets:network", "--checkpoint", "w.pt")
    assert again.status == 0, again.err


def test_a_window_and_a_mask_of_ones_own(case):
    words = (*OWN, "--window", "12,12,12", "--overlap", "0.5", "--instances", "mask.nii.gz")
    done = segxai(*words, *FILES, *QUICK[:4], "--reference", "mask.nii.gz", "--out", "r.h5")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        assert provenance_of(group(tree, "/"))["window"]["size"] == [12, 12, 12]


def test_a_whole_image_is_padded_where_the_network_asks_for_it(case):
    words = ("run", "--model", "ownnets:strided", "--channels", "bright,other", *FILES, *QUICK)
    done = segxai(*words, "--threshold", "0.4", "--out", "r.h5")
    assert done.status == 0, done.err
    assert "multiples of 4" in done.err
    with open_result("r.h5") as tree:
        assert provenance_of(group(tree, "/"))["plugin"]["options"]["divisor"] == 4


def test_a_script_in_python(case):
    adapter = wrapped(Toy(), classes=("rest", "ball"), name="mine")
    case_ = adapter.read(dict(zip(adapter.channels, map(Path, FILES), strict=True)))
    task = prepare(adapter, case_, Options.of(method="gradient", device="cpu", min_volume_mm3=3))
    assert explain_case(task, Path("r.h5")) == ("gradient-signed_max",)
    with open_result("r.h5") as tree:
        assert len(maps(tree, "gradient-signed_max")) == 4
    assert "tests.toy.segxai_toy.Toy" in segxai("rerun", "r.h5").error


# ------------------------------------------------------------------------------------- pictures


def photo(name="photo.png", mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(name)
    return pixels


def test_one_picture_fills_three_channels(case):
    pixels = photo()
    done = segxai(
        *PHOTO, "photo.png", "--normalise", "unit", *QUICK, "--rows", "4", "--out", "r.h5"
    )
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        image = tree["input"].to_dataset()["image"].values
        assert [one["role"] for one in provenance_of(group(tree, "/"))["case"]["sources"]] == [
            "image"
        ]
    assert np.abs(image - np.moveaxis(pixels, -1, 0) / 255).max() < 1e-6
    again = segxai("rerun", "r.h5", "--model", "ownnets:photo")
    assert again.status == 0, again.err


def test_a_grey_picture_fills_one_channel(case):
    photo("grey.png", "L")
    words = ("run", "--model", "ownnets:grey", "--channels", "grey", "--normalise", "unit")
    done = segxai(*words, "grey.png", *QUICK, "--rows", "4", "--min-volume", "3", "--out", "r.h5")
    assert done.status == 0, done.err
    photo("colour.png")
    assert "colour.png" in segxai(*words, "colour.png").error


# --------------------------------------------------------------------------- the command's mistakes

WORDS = {
    "no model": (("run", *FILES), "no model: give --plugin NAME"),
    "two models": ((*OWN, "--plugin", "toy", *FILES), "--plugin and --model exclude each other"),
    "not the plugin's": (
        ("run", "--plugin", "toy", "--channels", "a,b", *FILES),
        "--channels is for a model of your own",
    ),
    "no images": (OWN, "a model of your own has no embedded case: give it images"),
    "no channels": (
        ("run", "--model", "ownnets:network", *FILES),
        "the names of the input channels of network are not known",
    ),
    "one image": ((*OWN, "bright.nii.gz"), "1 image for 2 channels"),
    "three channels": (
        ("run", "--model", "ownnets:network", "--channels", "a,b,c", *FILES, "mask.nii.gz"),
        "the network takes 2 channels, but 3 are named: a, b, c",
    ),
    "twice": (
        ("run", "--model", "ownnets:network", "--channels", "a,a", *FILES),
        "the channel 'a' is named twice",
    ),
    "three classes": (
        (*OWN, "--classes", "a,b,c", *FILES),
        "returns 2 logits for each voxel, but 3 classes are named: a, b, c",
    ),
    "another class": (
        (*OWN, "--classes", "rest,ball", "--class", "bell", *FILES),
        "unknown class 'bell'; known: ball, rest; did you mean 'ball'?",
    ),
    "a window of words": ((*OWN, "--window", "96x96", *FILES), "--window 96x96: give a size"),
    "a flat window": ((*OWN, "--window", "16,16", *FILES), "window"),
    "a window of 10": (
        ("run", "--model", "ownnets:strided", "--channels", "a,b", "--window", "10,10,10", *FILES),
        "such as --window 12,12,12",
    ),
    "overlap": ((*OWN, "--window", "8,8,8", "--overlap", "1", *FILES), "overlap 1"),
    "trust": ((*OWN, "--trust", *FILES), "--trust is for files"),
    "activation": ((*OWN, "--activation", "relu", *FILES), "unknown activation 'relu'"),
    "spacing": ((*OWN, "--spacing", "0", *FILES), "--spacing 0: give millimetres"),
    "normalise": ((*OWN, "--normalise", "zscore", *FILES), "--normalise zscore is not known"),
    "over the picture": (
        (*PHOTO, "photo.png", "--out", "photo.h5"),
        "--out photo.h5 would write its picture to photo.png, which is one of the files to read",
    ),
    "over the named picture": (
        (*PHOTO, "image=photo.png", "--out", "photo.h5"),
        "--out photo.h5 would write its picture to photo.png, which is one of the files to read",
    ),
    "mixed": (
        ("run", "--model", "ownnets:network", "--channels", "a,b", "photo.png", "other.nii.gz"),
        "photo.png is a picture, but not all files of the case are",
    ),
}


@pytest.mark.parametrize("what", WORDS)
def test_a_mistake_is_one_clear_line(case, what):
    photo()
    words, message = WORDS[what]
    assert message in segxai(*words).error


# -------------------------------------------------------------------------------------- programs


def test_a_program_on_the_command_line(case):
    program = torch.export.export(Toy(), (torch.zeros(1, 2, 12, 12, 12),))
    torch.export.save(program, "toy.pt2")
    words = ("run", "--model", "toy.pt2", "--channels", "bright,other", *QUICK, *FILES)
    assert "add --trust" in segxai(*words).error
    done = segxai(*words, "--trust", "--out", "r.h5")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        found = provenance_of(group(tree, "/"))
    assert found["window"]["size"] == [12, 12, 12]
    assert found["weights"]["name"] == found["plugin"]["name"] == "toy.pt2"
    assert found["plugin"]["package"] == "a program (export)"
    again = segxai("rerun", "r.h5", "--model", "toy.pt2", "--trust")
    assert again.status == 0, again.err
    other = segxai(*words, "--trust", "--window", "16,16,16")
    assert "12,12,12" in other.error
    one = ("run", "--model", "toy.pt2", "--trust", "--channels", "bright", "bright.nii.gz")
    assert "takes 2 channels, but --channels names 1" in segxai(*one).error
    weights = segxai(*words, "--trust", "--checkpoint", "mask.nii.gz")
    assert "contains its weights" in weights.error


# ------------------------------------------------------------- views of an image, as in the how-to


def same_rows(network, logits, image, mask, **more):
    found = public.explain(network, image[0], mask, method="gradient", **more)
    expected = literal.signed_max(literal.rows(logits, image, np.argwhere(mask)))
    assert literal.worst(found.values, expected) < 1e-5
    return found.values


def test_the_slices_of_a_volume(folder):
    network = seeded(literal.Net2d(channels=2, classes=2))
    image, mask = image_of((2, 16, 12, 5)), np.zeros((16, 12, 5), dtype=bool)
    mask[7, 6:8, 3] = True

    def logits(volume):
        return torch.stack([network(volume[..., z]) for z in range(5)], dim=-1)

    found = same_rows(
        _defined("Slices")(network), logits, image, mask, window=(16, 12, 1), overlap=0
    )
    assert (found[..., [0, 1, 2, 4]] == 0).all()


def test_neighbouring_slices_as_channels(folder):
    network = seeded(literal.Net2d(channels=6, classes=2))
    image, mask = image_of((2, 16, 12, 5)), np.zeros((16, 12, 5), dtype=bool)
    mask[7, 6:8, 2:4] = True

    def logits(volume):
        empty = torch.zeros_like(volume[..., 0])
        slices = [empty, *volume.unbind(-1), empty]
        return torch.stack([network(torch.cat(slices[z : z + 3], dim=1)) for z in range(5)], dim=-1)

    found = same_rows(_defined("Neighbours")(network), logits, image, mask)
    assert (abs(found).reshape(2, -1, 5).max(axis=1)[:, 1:] > 0).all()
    assert (found[..., 0] == 0).all()


def test_channels_last(folder):
    plain = net2d()

    class Last(nn.Module):
        def forward(self, image):
            return plain(image.movedim(-1, 1)).movedim(1, -1)

    mask = np.zeros((24, 20), dtype=bool)
    mask[9:11, 8] = True
    same_rows(_defined("ChannelsFirst")(Last()), plain, image_of((3, 24, 20)), mask)


def _defined(name):
    """A class that the how-to defines."""
    (text,) = [block.text for block in markdown.blocks(PAGE) if f"class {name}(" in block.text]
    start = text.index(f"class {name}(")
    namespace = {"nn": nn, "torch": torch, "functional": import_module("torch.nn.functional")}
    exec(text[start:].partition("\n\n\n")[0], namespace)
    return namespace[name]


def test_own_models_have_adapters_of_the_usual_kind(case):
    files = dict(zip(("bright", "other"), map(Path, FILES), strict=True))
    adapter = adapter_for(
        OwnModel(model="ownnets:network", channels=("bright", "other")), None, lambda names: files
    )
    assert isinstance(adapter, public.Adapter)
    assert adapter.load_network() is adapter.load_network()
    assert adapter.files == ("bright", "other")
