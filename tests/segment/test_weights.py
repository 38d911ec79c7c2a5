"""Checkpoints, however they were saved: loaded whole, or refused in one line."""

import pytest
import torch
from safetensors.torch import save_file

from segxai.errors import SegxaiError
from segxai.segment.weights import load_weights, tensors_sha256
from tests import literal
from tests.networks import image_of, net2d


@pytest.mark.parametrize(
    "pack",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": one for name, one in state.items()}},
        lambda state: {"a": {"b": {"net._orig_mod." + name: one for name, one in state.items()}}},
        lambda state: {"optimizer": {"exp_avg": torch.zeros(3)}, "weights": state},
        lambda state: {name: one.half() for name, one in state.items()},
        lambda state: {n: one for n, one in state.items() if "num_batches" not in n},
    ],
)
def test_the_wrappings_of_training_scripts_are_taken_off(tmp_path, pack):
    wanted, network = net2d(), literal.Net2d()
    torch.save(pack(wanted.state_dict()), tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    image = image_of((3, 24, 20))
    with torch.no_grad():
        assert literal.worst(network.eval()(image), wanted(image)) < 1e-2
    assert {one.dtype for one in network.parameters()} == {torch.float32}


def test_safetensors(tmp_path):
    save_file(net2d().state_dict(), tmp_path / "w.safetensors")
    network = load_weights(literal.Net2d(), tmp_path / "w.safetensors")
    assert tensors_sha256(network) == tensors_sha256(net2d())
    with torch.no_grad():
        network.last.bias[0] += 1e-6
    assert tensors_sha256(network) != tensors_sha256(net2d())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("last.bias"),
            r"1 of 13 tensors are missing, such as 'last\.bias'",
        ),
        (lambda state: state.update(aux=torch.zeros(2)), r"unexpected tensors: 1, such as 'aux'"),
        (
            lambda state: state.update({"last.bias": torch.zeros(7)}),
            r"'last\.bias' is of shape \(7,\) and should be \(3,\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path, change, message):
    state = net2d().state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pt")
    network = literal.Net2d()
    before = tensors_sha256(network)
    with pytest.raises(SegxaiError, match=message) as error:
        load_weights(network, tmp_path / "w.pt", "nets:unet")
    assert "\n" not in str(error.value)
    assert "w.pt does not fit nets:unet" in str(error.value)
    assert tensors_sha256(network) == before


def test_a_pickle_is_no_checkpoint(tmp_path):
    torch.save(net2d(), tmp_path / "whole.pt")
    with pytest.raises(SegxaiError, match="tests.literal.Net2d beside tensors"):
        load_weights(net2d(), tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(SegxaiError, match="holds a list"):
        load_weights(net2d(), tmp_path / "list.pt")
