"""The conformance kit: an honest adapter passes, and every lie is caught by its own message."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segxai import Adapter, Case, WholeImage
from segxai.errors import SegxaiError
from segxai.plugins.registry import load_adapter
from tests.commandline import segxai, use_toys
from tests.testing.checks import (
    CASE,
    INSTANCES,
    LAST,
    LAYER,
    LOADS,
    MIRRORS,
    NAMED_WEIGHTS,
    PLACES,
    PLAIN,
    PROMISES,
    REFERENCE,
    REPEATED,
    ROWS,
    SHAPE,
    WINDOWS,
    broken,
    findings,
    raise_error,
    without,
)
from tests.toy.segxai_toy import TOY, Toy, bare_case, picture

# --------------------------------------------------------------------------------- honest adapters


def test_an_honest_adapter_keeps_every_promise():
    found = findings(TOY)
    assert list(found) == PROMISES
    assert all(finding.holds for finding in found.values())
    told = {what: finding.detail for what, finding in found.items() if finding.detail}
    assert told.pop(ROWS).startswith("windowed; a row keeps to ")
    assert told == {
        NAMED_WEIGHTS: "skipped, no file is named",
        LAYER: "active, channels_first",
        WINDOWS: "the whole image at once",
        PLACES: "a made-up volume of 20 x 18 x 16 comes back (correlation 1.000)",
        INSTANCES: "4 of class 'ball'",
        REFERENCE: "it can be read; outcomes of 4 instances follow it",
        REPEATED: "the map of instance 4 differs by 0.0e+00 of its peak",
    }


def test_the_adapter_comes_back_as_it_was():
    network = Toy().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert broken(replace(TOY, load_network=lambda: network)) == {}
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("axes", [2, 3])
def test_an_adapter_without_a_case_is_tried_on_noise(axes):
    adapter = replace(
        TOY,
        embedded_case=Adapter.embedded_case,
        load_network=lambda: Toy(axes=axes),
    )
    found = findings(adapter)
    assert all(finding.holds for finding in found.values()), found
    assert found[CASE].detail == "skipped, there is none"
    assert found[INSTANCES].detail == "skipped, there is no embedded case"


def test_sigmoids_and_mirrors_are_fine():
    adapter = replace(TOY, predict=WholeImage(activation="sigmoid"), mirror_axes=(0, 2))
    found = findings(adapter)
    assert list(found) == [*PLAIN, WINDOWS, PLACES, MIRRORS, INSTANCES, *LAST]
    assert broken(adapter) == {}
    assert found[MIRRORS].detail == "along 0, 2"


def test_the_command_prints_the_list(monkeypatch):
    use_toys(monkeypatch)
    done = segxai("check", "toy")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line[5:].split(":")[0] for line in lines] == PROMISES
    assert all(line.startswith("ok   ") for line in lines)
    assert f"ok   {INSTANCES}: 4 of class 'ball'" in lines
    done = segxai("check", "toy_nan")
    assert f"FAIL {SHAPE}: logits are not finite" in done.out.splitlines()
    assert "adapter 'toy_nan' fails" in done.error
    assert "unknown adapter 'tyo'" in segxai("check", "tyo").error


def test_the_adapter_of_this_project_passes():
    done = segxai("check", "ms_lesion")
    assert done.status == 0, done.out
    summary, *lines = done.out.splitlines()
    assert summary == f"ms_lesion: {load_adapter('ms_lesion').summary}"
    assert [line[5:].split(":")[0] for line in lines] == PROMISES
    assert f"ok   {WINDOWS}: 1 of 128 x 160 x 96 voxels" in lines
    assert (
        lines[-2]
        == f"ok   {ROWS}: windowed; a row keeps to 31x31x31 of the window's 128x160x96 voxels"
    )


# ------------------------------------------------------------------------------------------- lies


def test_weights_are_those_of_the_named_file(tmp_path):
    path = tmp_path / "w.safetensors"
    named = replace(TOY, weights=path)
    save_file({"other": torch.zeros(2)}, path)
    assert findings(named)[NAMED_WEIGHTS].detail.endswith("has other names for its tensors")
    save_file(Toy().state_dict(), path)
    assert broken(named) == {}
    assert findings(named)[NAMED_WEIGHTS].detail == "w.safetensors"
    name, *_ = state = Toy().state_dict()
    save_file({**state, name: state[name] + 1}, path)
    assert broken(named) == {
        NAMED_WEIGHTS: f"{name} is not as in w.safetensors, which `weights` names"
    }


def test_a_case_that_changes_is_caught():
    image = picture()
    noise = np.random.default_rng(0)
    restless = replace(TOY, embedded_case=lambda: bare_case(image + noise.random(1, np.float32)))
    assert broken(restless)[CASE].startswith("loaded twice, the image differs")


def test_nothing_is_looked_at_after_a_failure_to_load():
    assert list(findings(without(load_network=raise_error)))[-1] == LOADS
    assert list(findings(without(embedded_case=raise_error)))[-1] == CASE


def test_an_error_of_the_user_is_told_in_its_own_words():
    def missing():
        raise SegxaiError("no weights here; download them")

    assert broken(without(load_network=missing)) == {LOADS: "no weights here; download them"}


def test_a_case_is_a_case():
    assert isinstance(TOY.embedded_case(), Case)
