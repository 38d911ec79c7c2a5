"""Folders of transformers as people have them, and what is said of those that are none."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from segxai_natural_image import extras
from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
)

from segxai.errors import SegxaiError
from tests.natural_image import models as natural
from tests.natural_image.models import adapter, refused
from tests.pickles import Bomb

TINY = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}


def change_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    config = {key: value for key, value in (config | changes).items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))


def test_a_folder_of_something_else(folder):
    refused(folder, r"has no config.json: it is not a model of transformers; give a folder that s")
    (folder / "config.json").write_text("{")
    refused(folder, r"config.json is not JSON \(.*\); give a folder that save_pretrained wrote")
    (folder / "config.json").write_text('{"a": 1}')
    refused(folder, "names no model_type")
    (folder / "config.json").write_text('{"model_type": "vitt"}')
    refused(folder, "of type 'vitt', not a segmentation model known here; known: beit, .*segform")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            lambda: ViTForImageClassification(
                ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
            ),
            "of type 'vit', not a segmentation model known",
        ),
        (
            lambda: SegformerForImageClassification(SegformerConfig(**TINY)),
            "the weights of SegformerForImageClassification, which do not segment; give a folder of"
            " SegformerForSemanticSegmentation",
        ),
    ],
)
def test_a_model_that_classifies_pictures(folder, network, words):
    refused(natural.save(network(), folder / "model"), words)


def test_a_folder_without_the_weights_that_segment(folder):
    natural.save(SegformerForImageClassification(SegformerConfig(**TINY)), folder)
    change_config(folder, architectures=None)
    refused(folder, r"lacks \d+ tensors of SegformerForSemanticSegmentation, such as 'decode_head")
    (folder / "model.safetensors").unlink()
    refused(folder, "there is no file named model.safetensors or .* in ")


def test_no_weights_run_code(folder):
    natural.segformer(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb()}))
    refused(folder, "pytorch_model.bin.* contains .* beside tensors")
    torch.save({"a": Bomb()}, folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin.* contains .* beside tensors")
    assert not (folder / "exploded").exists()


def test_weights_without_code_may_be_pickled(folder):
    natural.segformer(folder)
    wanted = adapter(folder).load_network().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(
        {name.removeprefix("network."): one for name, one in wanted.items()},
        folder / "pytorch_model.bin",
    )
    found = adapter(folder).load_network().state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)


def test_code_in_a_folder_is_not_run(folder):
    natural.segformer(folder)
    (folder / "evil.py").write_text("open('harm', 'w')\nclass Evil: pass\n")
    change_config(folder, auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    adapter(folder).load_network()
    change_config(folder, model_type="evil")
    refused(folder, "of type 'evil', not a segmentation model known")
    assert not (folder / "harm").exists()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("transformers_weights", "other.safetensors", "names its own file of weights, in 'transf"),
        ("attn_implementation", "evil/kernel", "chooses an implementation, in 'attn_implementat"),
        ("_attn_implementation", "evil/kernel:x", "chooses an implementation, in '_attn_impleme"),
        ("_attn_implementation_internal", {"": "evil/kernel"}, "that could be code from elsewher"),
        ("experts_implementation", "evil/kernel", r"remove that \(known: eager, sdpa\)"),
    ],
)
def test_a_configuration_chooses_no_weights_and_no_code(folder, key, value, words, nested):
    content = {"model_type": "segformer", **({"a": [{key: value}]} if nested else {key: value})}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(SegxaiError, match=words):
        adapter(folder)


def test_the_weights_that_are_hashed_are_those_that_are_loaded(folder):
    natural.segformer(folder)
    (folder / "pytorch_model.bin").write_bytes(b"innocent")
    made = adapter(folder)
    assert made.weights == folder / "model.safetensors"
    with extras.quiet():
        wanted = SegformerForSemanticSegmentation.from_pretrained(folder).state_dict()
    found = made.load_network().network.state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)
    change_config(folder, attn_implementation="eager")  # known, as old folders have it
    adapter(folder).load_network()


def sharded(folder, *names):
    """Split a folder's weights in files of these names; return them as they are loaded."""
    loaded = adapter(folder).load_network().network.state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {name: dict(list(tensors.items())[n :: len(names)]) for n, name in enumerate(names)}
    for name, part in parts.items():
        save_file(part, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return loaded


def test_weights_in_several_files(folder):
    natural.segformer(folder)
    wanted = sharded(folder, "a.safetensors", "b.safetensors")
    made = adapter(folder)
    assert made.weights == folder
    found = made.load_network().network.state_dict()
    assert all((found[name] == wanted[name]).all() for name in wanted)


@pytest.mark.parametrize("place", ["../b.safetensors", "/b.safetensors", "..", "", 3, None])
def test_an_index_names_files_in_its_folder(folder, place):
    (folder / "inner").mkdir()
    natural.segformer(folder / "inner")
    sharded(folder / "inner", "a.safetensors", "../b.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": place}}
    (folder / "inner/model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder / "inner", "index.json names .*, which is not a file in its folder")


def test_half_precision_is_computed_in_full(folder):
    natural.segformer(folder)
    network = adapter(folder).load_network().network
    natural.save(network.half(), folder / "half")
    again = adapter(folder / "half").load_network()
    assert {one.dtype for one in again.parameters()} == {torch.float32}


def test_a_folder_is_hashed_by_its_weights(folder):
    natural.segformer(folder)
    assert adapter(folder).weights == folder / "model.safetensors"
