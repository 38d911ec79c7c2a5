"""Sets of weights in one checkpoint: none is taken in silence, and every door asks which."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segxai_ms_lesion.network import unet
from segxai_nnunet.dynunet import dynunet
from segxai_swin_unetr.network import swin_unetr
from torch import nn

from segxai import (
    SegxaiError,
    SegxaiWarning,
    load_adapter,
    load_weights,
    open_result,
    unwrap,
    weight_sets,
)
from segxai.cli.flags import as_flags
from segxai.models.bundle import load_bundle
from segxai.models.own_model import OwnModel, adapter_for
from segxai.store.schema import group, provenance_of
from tests.commandline import segxai
from tests.literal import seeded
from tests.models import test_bundle as bundles
from tests.natural_image import models as pictures
from tests.networks import untrained
from tests.nnunet import folders
from tests.toy.segxai_toy import Toy


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 2, 3)))


def under(prefix, state):
    return {prefix + name: one for name, one in state.items()}


def one_more(state):
    """Other weights for the same network."""
    return {name: one + 1 if one.is_floating_point() else one for name, one in state.items()}


MINE = seeded(network()).state_dict()
OTHER = one_more(MINE)

SEVERAL = {
    "mappings": ({"teacher": MINE, "student": OTHER}, "teacher", "student"),
    "deep": (
        {"a": {"model": under("module.", MINE)}, "ema": {"shadow": OTHER}},
        "a.model.module",
        "ema.shadow",
    ),
    "prefixes": (
        {"state_dict": under("model.", MINE) | under("ema_model.", OTHER)},
        "state_dict.model",
        "state_dict.ema_model",
    ),
    "beside": (MINE | under("ema.", OTHER), ".", "ema"),
    "flat": (under("student.", MINE) | under("teacher.", OTHER), "student", "teacher"),
}


@pytest.mark.parametrize(("content", "first", "second"), SEVERAL.values(), ids=SEVERAL)
def test_several_sets_are_named_and_each_can_be_taken(folder, content, first, second):
    torch.save(content, "w.pt")
    for saved in (content, dict(reversed(content.items()))):
        torch.save(saved, "w.pt")
        with pytest.raises(SegxaiError, match="w.pt holds 2 sets of weights for the") as caught:
            load_weights(network(), Path("w.pt"))
        assert "\n" not in str(caught.value)
        assert repr(first) in str(caught.value)
        assert repr(second) in str(caught.value)
        assert "say which with --weights-key" in as_flags(caught.value.text)
        for key, wanted in ((first, MINE), (second, OTHER)):
            loaded = load_weights(network(), Path("w.pt"), key=key).state_dict()
            assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)
    with pytest.raises(SegxaiError, match=f"unknown key of weights 'x'; known: .*{first}"):
        load_weights(network(), Path("w.pt"), key="x")


def test_the_key_of_an_only_set_is_known_too():
    (only,) = weight_sets({"state_dict": under("net.", MINE)}, MINE)
    assert (only.key, only.is_complete) == ("state_dict.net", True)
    assert only.tensors == MINE
    assert [one.key for one in weight_sets(MINE, MINE)] == ["."]
    assert weight_sets({"a": {"b": torch.ones(2)}}, MINE) == []


def test_the_same_weights_twice_are_no_choice():
    copied = {name: one.clone() for name, one in MINE.items()}
    assert unwrap({"best": MINE, "last": copied}, MINE) == MINE
    copied["0.bias"] += 1e-6
    with pytest.raises(SegxaiError, match="2 sets of weights"):
        unwrap({"best": MINE, "last": copied}, MINE)


def test_a_set_that_is_taken_because_others_do_not_fit_is_told():
    """An average that keeps no statistics of batch norm, a teacher that is wider."""
    short = {name: one for name, one in OTHER.items() if name != "1.0.bias"}
    with pytest.warns(SegxaiWarning, match=r"w.pt: took the weights 'model'; 'ema' does not fit"):
        assert unwrap({"ema": short, "model": MINE}, MINE, name="w.pt") == MINE
    wide = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 2, 3))).state_dict()
    with pytest.warns(SegxaiWarning, match="took the weights 'b'; 'a', 'c' do not fit"):
        assert unwrap({"a": wide, "b": MINE, "c": short}, MINE) == MINE


def test_what_is_no_choice_is_not_told():
    """Layers that are named alike, the weights of a loss, an optimizer's state."""
    content = {"net": under("module.", MINE), "loss": {"weight": torch.ones(2)}, "epoch": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unwrap(content, MINE) == MINE
        assert unwrap(MINE, MINE) == MINE


# -------------------------------------------------------------------------------------- every door


def two_sets(state, path="w.pt"):
    """Two sets, and the numbers of numpy that training scripts save beside them."""
    numbers = {"best_acc": np.float64(0.5), "losses": [np.float32(2), np.int64(3)]}
    torch.save({"student": state, "ema": one_more(state), **numbers}, path)
    return Path(path)


def lraspp():
    from torchvision.models import segmentation

    return untrained(
        lambda: segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=2
        )
    )


def picture_folder(*, as_safetensors=False):
    """A folder of transformers with two sets of weights, as mappings or as prefixes."""
    path = pictures.segformer(Path("model"))
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    if not as_safetensors:
        two_sets(state, path / "pytorch_model.bin")
        return path
    save_file(under("student.", state), path / "a.safetensors")
    save_file(under("ema.", one_more(state)), path / "b.safetensors")
    names = {f"student.{name}": "a.safetensors" for name in state}
    names |= {f"ema.{name}": "b.safetensors" for name in state}
    index = json.dumps({"weight_map": names, "metadata": {}})
    (path / "model.safetensors.index.json").write_text(index)
    return path


PLUGINS = {
    "ms_lesion": lambda: two_sets(untrained(unet, (4, 8)).state_dict()),
    "swin_unetr": lambda: two_sets(untrained(swin_unetr, 12, 2).state_dict()),
    "nnunet": lambda: two_sets(untrained(dynunet, (4, 6, 8)).state_dict()),
    "natural_image": lambda: two_sets(lraspp().state_dict()),
    "folder": picture_folder,
    "folder of two files": lambda: picture_folder(as_safetensors=True),
}


@pytest.mark.parametrize("door", PLUGINS)
def test_every_plugin_asks_which_and_takes_it(folder, door):
    path = PLUGINS[door]()
    plugin = door if "folder" not in door else "natural_image"
    with pytest.raises(SegxaiError, match="2 sets of weights .*: 'student', 'ema'; say which"):
        load_adapter(plugin, path).load_network()
    student, ema = (
        load_adapter(plugin, path, key).load_network().state_dict() for key in ("student", "ema")
    )
    shared = [name for name, one in student.items() if one.is_floating_point()]
    assert all(torch.equal(ema[name], student[name] + 1) for name in shared)
    with pytest.raises(SegxaiError, match="unknown key of weights 'x'; known: .*ema.*, student"):
        load_adapter(plugin, path, "x").load_network()


def test_a_folder_of_nnunet_has_the_set_that_its_own_predictor_takes(folder):
    path = folders.trained_model(folder / "model")
    load_adapter("nnunet", path, "network_weights").load_network()
    with pytest.raises(SegxaiError, match="unknown key of weights 'ema'; known: network_weights"):
        load_adapter("nnunet", path, "ema")


def test_what_a_plugin_does_not_take_is_refused(toys, folder):
    torch.save({}, "w.pt")
    with pytest.raises(SegxaiError, match="'toy' of .* takes no checkpoint: leave it out"):
        load_adapter("toy", Path("w.pt"))
    with pytest.raises(SegxaiError, match="weights_key=ema chooses .* in a checkpoint: give check"):
        load_adapter("ms_lesion", None, "ema")


OWN = ("run", "--model", "weightnets:network", "--channels", "bright,other")
QUICK = ("--method", "gradient", "--aggregator", "mean", "--instances", "1", "--out", "r.h5")
FILES = ("bright.nii.gz", "other.nii.gz")


def test_the_command_line_says_which_and_keeps_it_for_rerun(case, toys):
    Path("weightnets.py").write_text("from tests.toy.segxai_toy import Toy\n\nnetwork = Toy\n")
    two_sets(Toy().state_dict())
    words = (*OWN, *FILES, *QUICK, "--checkpoint", "w.pt")
    assert "'student', 'ema'; say which with --weights-key" in segxai(*words).error
    done = segxai(*words, "--weights-key", "student")
    assert done.status == 0, done.err
    with open_result("r.h5") as tree:
        stored = provenance_of(group(tree, "/"))
    assert stored["weights"]["key"] == "student"
    again = segxai("rerun", "r.h5", "--model", "weightnets:network", "--checkpoint", "w.pt")
    assert again.status == 0, again.err
    assert "key" in segxai(*words, "--weights-key", "ema").error  # not the same run
    assert "give --checkpoint, too" in segxai(*words[:-2], "--weights-key", "ema").error


def test_a_set_that_does_not_fit_is_told_and_kept(case, toys):
    """A moving average of the parameters alone, beside the weights."""
    Path("weightnets.py").write_text("from tests.toy.segxai_toy import Toy\n\nnetwork = Toy\n")
    toy = Toy().state_dict()
    torch.save(
        {"model": toy, "ema": {n: one for n, one in toy.items() if n != "logits.bias"}}, "w.pt"
    )
    done = segxai(*OWN, *FILES, *QUICK, "--checkpoint", "w.pt")
    assert done.status == 0, done.err
    told = "w.pt: took the weights 'model'; 'ema' does not fit the network"
    assert done.err.count(told) == 1
    with open_result("r.h5") as tree:
        assert told in provenance_of(group(tree, "/"))["notes"]


def test_a_bundle_asks_which_and_takes_it(folder):
    path = bundles.bundle(folder / "lesions")
    state = bundles.network().state_dict()
    two_sets(state, path / "models" / "model.pt")
    with pytest.raises(SegxaiError, match="2 sets of weights .*: 'student', 'ema'; say which"):
        load_bundle(path, trust=True)
    loaded = load_bundle(path, weights_key="ema", trust=True).network.state_dict()
    assert all(torch.equal(one, state[name] + 1) for name, one in loaded.items())


def test_a_program_has_its_own_weights(folder):
    Path("p.pt").touch()
    own = OwnModel(model="p.pt", trust=True, channels=("a",), weights_key="ema")
    with pytest.raises(SegxaiError, match="contains its weights: leave out weights_key"):
        adapter_for(own)
