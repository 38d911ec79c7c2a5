"""Checkpoints of the lesion network: of any widths and wrapping, and no other architecture."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segxai_ms_lesion import network

from segxai.errors import SegxaiError
from segxai.plugins.registry import load_adapter
from tests.networks import logits_of, untrained

WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "Lightning": lambda state: {
        "state_dict": {f"model.{name}": value for name, value in state.items()}
        | {"loss.weight": torch.ones(2)},
        "hyper_parameters": {"widths": [4, 8, 16]},
    },
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_wrappings_of_training_scripts_are_taken_off(folder, wrap):
    model = untrained(network.unet, (4, 8, 16))
    torch.save(wrap(model.state_dict()), "w.pt")
    loaded = network.load_unet(Path("w.pt"))
    torch.testing.assert_close(logits_of(loaded, 32), logits_of(model, 32), rtol=0, atol=0)


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 16), (8, 8, 12, 20), (2, 4, 8, 16, 32)])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_widths_and_depth_are_those_of_the_checkpoint(folder, widths, ending):
    model, path = untrained(network.unet, widths), Path(f"w.{ending}")
    if ending == "pt":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    loaded = network.load_unet(path)
    assert not loaded.training
    torch.testing.assert_close(logits_of(loaded, 32), logits_of(model, 32), rtol=0, atol=0)


def test_the_papers_network_loads(folder):
    model = untrained(network.unet, (32, 64, 128, 256, 512))
    torch.save({"state_dict": model.state_dict()}, "w.pt")
    loaded = network.load_unet(Path("w.pt"))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert load_adapter("ms_lesion").layer in dict(loaded.named_modules())


def other(**changes):
    from monai.networks.nets.unet import UNet

    options = {
        "spatial_dims": 3,
        "in_channels": 2,
        "out_channels": 2,
        "channels": (4, 8, 16),
        "strides": (2, 2),
        "num_res_units": 0,
        "norm": "batch",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return UNet(**options | changes)


MISFITS = {
    "residual units": (other(num_res_units=2), "'model.0.conv.weight' is absent"),
    "instance norm": (other(norm="instance"), "'model.0.adn.N.bias' is absent"),
    "one channel": (other(in_channels=1), "'model.0.conv.weight' is (4, 1, 3, 3, 3)"),
    "three classes": (other(out_channels=3), "'model.2.conv.bias' is (3,) and should be (2,)"),
    "wider kernels": (other(kernel_size=5), "'model.0.conv.weight' is (4, 2, 5, 5, 5)"),
    "two axes": (other(spatial_dims=2), "'model.0.conv.weight' is (4, 2, 3, 3) and should have 5"),
    "no U-Net": (torch.nn.Linear(2, 2), "'model.0.conv.weight' is absent"),
}


@pytest.mark.parametrize(("model", "words"), MISFITS.values(), ids=MISFITS)
def test_another_architecture_is_refused_with_the_first_tensor_that_differs(folder, model, words):
    torch.save(model.state_dict(), "w.pt")
    with pytest.raises(SegxaiError, match=r"^w.pt does not fit the lesion network: ") as caught:
        network.load_unet(Path("w.pt"))
    assert words in str(caught.value)
    assert "3D UNet of MONAI with 2 channels, 2 classes, strides of 2" in str(caught.value)


def test_a_half_checkpoint_is_refused(folder):
    state = untrained(network.unet, (4, 8, 16)).state_dict()
    torch.save({name: value for name, value in state.items() if "submodule" not in name}, "w.pt")
    with pytest.raises(SegxaiError, match=r"'model.1.submodule.conv.weight' is absent"):
        network.load_unet(Path("w.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no checkpoint at"),
        ({"model.0.conv.weight": torch.zeros(3)}, "does not fit the lesion network: 'model.0"),
        (torch.zeros(3), "holds a Tensor; expected a state dict"),
        (np.float64, "cannot read the checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_a_mistake_of_one_line(
    tmp_path: Path, content: object, message: str
) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(SegxaiError, match=message) as caught:
        network.load_unet(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_torch_loads_as_the_embedded_weights_do(tmp_path: Path) -> None:
    embedded = network.load_unet()
    torch.save(embedded.state_dict(), tmp_path / "weights.pt")
    loaded = network.load_unet(tmp_path / "weights.pt")
    assert not loaded.training
    torch.testing.assert_close(logits_of(loaded, 16), logits_of(embedded, 16), rtol=0, atol=0)
