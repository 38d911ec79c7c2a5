"""Networks as files: TorchScript and torch.export, trusted by word; ONNX has no gradients."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segxai
from segxai.errors import SegxaiError
from segxai.models.program import Program, is_program, load_program
from tests import literal
from tests.literal import Net2d, seeded
from tests.networks import image_of, net2d, small_unet
from tests.pickles import Bomb

SHAPE = (16, 16, 16)
VOXELS = ((6, 7, 7), (7, 7, 7), (7, 7, 8))
DOMAIN = segxai.Instance(1, np.array(VOXELS)).mask(SHAPE)


class InPlace(nn.Module):
    """Instance norm, whose result is a view, and then an activation in place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(2, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.active = nn.LeakyReLU(inplace=True)
        self.last = nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, image):
        return self.last(self.active(self.norm(self.first(image))))


class Tuple(nn.Module):
    """Logits among other outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        logits = self.network(image)
        return logits, logits.mean()


def quietly(save, *arguments):
    with warnings.catch_warnings():  # TorchScript is deprecated; the files are there
        warnings.simplefilter("ignore")
        save(*arguments)


def scripted(network, path, example):
    torch.jit.save(torch.jit.script(network), path)


def traced(network, path, example):
    torch.jit.save(torch.jit.trace(network, example), path)


def frozen(network, path, example):
    torch.jit.save(torch.jit.freeze(torch.jit.trace(network, example)), path)


def exported(network, path, example):
    torch.export.save(torch.export.export(network, (example,)), path)


def exported_for_any(network, path, example):
    sizes = {axis: 8 * torch.export.Dim(f"n{axis}", min=1, max=20) for axis in (2, 3, 4)}
    program = torch.export.export(network, (example,), dynamic_shapes=(sizes,))
    torch.export.save(program, path)


def pickled(network, path, example):
    torch.save(network, path)


KINDS = {
    "script.pt": scripted,
    "trace.pt": traced,
    "frozen.ts": frozen,
    "export.pt2": exported,
    "any.pt2": exported_for_any,
    "whole.pth": pickled,
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with one network as a file of each kind, and more."""
    folder, image = tmp_path_factory.mktemp("programs"), image_of((2, *SHAPE))
    for name, save in KINDS.items():
        quietly(save, small_unet(), folder / name, image)
    quietly(scripted, seeded(InPlace()), folder / "in_place.pt", image)
    quietly(exported, seeded(InPlace()), folder / "in_place.pt2", image)
    quietly(exported, Tuple(small_unet()), folder / "tuple.pt2", image)
    quietly(exported, small_unet(), folder / "eight.pt2", image.expand(8, -1, -1, -1, -1))
    torch.save(small_unet().state_dict(), folder / "weights.pt")
    (folder / "nothing.pt").write_text("nothing")
    (folder / "network.onnx").write_bytes(b"\x08\x07")
    return folder


def explained(network, image, **more):
    return segxai.explain(network, image[0], DOMAIN, method="gradient", **more)


# ------------------------------------------------------------------------------------- the layers


@pytest.mark.parametrize("name", ["script.pt", "export.pt2"])
@pytest.mark.parametrize("layer", [None, "model.0"])
def test_a_program_hides_its_layers_from_cam_methods_and_says_so(programs, name, layer):
    network, image = load_program(programs / name, trust=True).network, image_of((2, *SHAPE))
    with pytest.raises(SegxaiError, match=r"shows none: a program \(TorchScript, .* hides them"):
        segxai.explain(network, image[0], DOMAIN, method="gradcam++", layer=layer)


# ------------------------------------------------------------------------------------- the values


@pytest.mark.parametrize("engine", ["auto", "windowed", "dense"])
@pytest.mark.parametrize("name", KINDS)
def test_a_program_is_explained_as_the_network_it_was_made_of(programs, name, engine):
    image = image_of((2, *SHAPE))
    rows = literal.rows(small_unet(), image, sorted(VOXELS))
    program = load_program(programs / name, trust=True)
    found = explained(program.network, image, engine=engine)
    assert literal.worst(found.values, literal.signed_max(rows)) < 1e-5
    assert found.attrs["engine"] == ("windowed" if engine == "auto" else engine)


@pytest.mark.parametrize("name", ["in_place.pt", "in_place.pt2"])
def test_normalisation_and_activations_in_place_within_a_program(programs, name):
    image = image_of((2, *SHAPE))
    rows = literal.rows(seeded(InPlace()), image, sorted(VOXELS))
    found = explained(load_program(programs / name, trust=True).network, image)
    assert literal.worst(found.values, literal.signed_max(rows)) < 1e-5


def test_a_program_may_return_more_than_logits(programs):
    image = image_of((2, *SHAPE))
    rows = literal.rows(small_unet(), image, sorted(VOXELS))
    found = explained(load_program(programs / "tuple.pt2", trust=True).network, image)
    assert literal.worst(found.values, literal.signed_max(rows)) < 1e-5


def test_noise_is_smoothed_over_as_anywhere(programs):
    image, options = image_of((2, *SHAPE)), {"samples": 3, "method": "smoothgrad"}
    found, wanted = (
        segxai.explain(network, image[0], DOMAIN, **options).values
        for network in (load_program(programs / "export.pt2", trust=True).network, small_unet())
    )
    assert literal.worst(found, wanted) < 1e-5


def test_what_the_file_says_of_its_input(programs):
    def said(name):
        program = load_program(programs / name, trust=True)
        return program.kind, program.channels, program.window

    assert said("export.pt2") == ("export", 2, SHAPE)
    assert said("any.pt2") == ("export", 2, None)
    assert said("script.pt") == ("script", None, None)
    assert said("whole.pth") == ("module", None, None)


def test_a_program_keeps_its_mode_and_moves_as_a_whole(programs):
    network = load_program(programs / "export.pt2", trust=True).network
    assert isinstance(network.train().eval(), Program)
    count = sum(1 for _ in network.parameters())
    assert count == sum(1 for _ in small_unet().parameters())
    network.double()
    assert {one.dtype for one in network.parameters()} == {torch.float64}


def test_files_are_told_from_names_of_factories(programs):
    assert is_program(str(programs / "script.pt"))
    assert is_program("missing.pt2")
    assert not is_program("lesions.networks:unet")


# --------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_loaded_without_the_word(programs, name):
    with pytest.raises(SegxaiError, match=r"can run any code .* add --trust"):
        load_program(programs / name, trust=False)


def test_a_pickle_runs_with_the_word_only(folder):
    torch.save(Bomb(), folder / "bad.pt")
    with pytest.raises(SegxaiError, match="add --trust"):
        load_program(Path("bad.pt"), trust=False)
    assert not Path("exploded").exists()
    with pytest.raises(SegxaiError, match="holds weights but no network"):
        load_program(Path("bad.pt"), trust=True)
    assert Path("exploded").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("network.onnx", r"computes no gradients; load the PyTorch model .* onnx2torch"),
        ("weights.pt", r"holds weights but no network; .* with --checkpoint weights\.pt"),
        ("nothing.pt", r"nothing\.pt is not a TorchScript or torch\.export program"),
        ("missing.pt", r"no model file .*missing\.pt"),
        ("eight.pt2", r"was exported for batches of 8 images; segxai gives one at a time"),
    ],
)
def test_mistakes_are_one_clear_line(programs, name, message):
    with pytest.raises(SegxaiError, match=message) as error:
        load_program(programs / name, trust=True)
    assert "\n" not in str(error.value)


def test_onnx_is_refused_without_the_word_too(programs):
    with pytest.raises(SegxaiError, match="computes no gradients"):
        load_program(programs / "network.onnx", trust=False)


def test_a_damaged_program_is_one_line(programs, tmp_path):
    content = (programs / "script.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(SegxaiError, match="is not a TorchScript"):
        load_program(tmp_path / "cut.pt", trust=True)


@pytest.mark.parametrize("name", ["export.pt2", "script.pt"])
def test_a_shape_that_a_program_does_not_take_is_explained(programs, name):
    network = load_program(programs / name, trust=True).network
    image = torch.zeros(3, *SHAPE)
    taken = r"was exported for 1 x 2 x 16 x 16 x 16 and takes nothing else"
    message = taken if name == "export.pt2" else r"expected input.* to have 2 channels"
    with pytest.raises(SegxaiError, match=message) as error:
        segxai.explain(network, image, DOMAIN, method="gradient")
    assert "\n" not in str(error.value)


def test_a_program_with_two_inputs(tmp_path):
    class Two(nn.Module):
        def forward(self, first, second):
            return first + second

    image = image_of((2, 8, 8))
    torch.export.save(torch.export.export(Two(), (image, image)), tmp_path / "two.pt2")
    with pytest.raises(SegxaiError, match="takes 2 inputs"):
        load_program(tmp_path / "two.pt2", trust=True)


def test_a_network_of_2d_pictures(tmp_path):
    image, mask = image_of((3, 24, 20)), np.zeros((24, 20), dtype=bool)
    mask[9:11, 8:10] = True
    quietly(exported, net2d(), tmp_path / "flat.pt2", image)
    program = load_program(tmp_path / "flat.pt2", trust=True)
    rows = literal.rows(seeded(Net2d()), image, np.argwhere(mask), class_index=2)
    found = segxai.explain(program.network, image[0], mask, class_index=2, method="gradient")
    assert literal.worst(found.values, literal.signed_max(rows)) < 1e-5
