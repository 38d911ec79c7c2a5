"""MONAI's DynUNet, as the paper's published scripts build it: checkpoints and logits."""

from pathlib import Path

import pytest
import torch
from monai.networks.nets.dynunet import DynUNet
from safetensors.torch import save_file, save_model
from segxai_nnunet import adapter, dynunet

from segxai import SlidingWindow
from segxai.errors import SegxaiError
from tests.networks import logits_of, untrained


def test_the_dynunet_is_that_of_the_published_scripts():
    theirs = DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[16, 32, 64],
        norm_name="instance",
        deep_supervision=False,
        res_block=True,
    )
    ours = dynunet.dynunet()
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(logits_of(ours, 16), logits_of(theirs.eval(), 16), rtol=0, atol=0)


SAVED = {
    "bare": (lambda model, path: torch.save(model.state_dict(), path), "w.pt"),
    "wrapped": (
        lambda model, path: torch.save(
            {"model": {f"module.{name}": one for name, one in model.state_dict().items()}}, path
        ),
        "w.pth",
    ),
    "safetensors, all names": (
        lambda model, path: save_file(
            {name: one.clone() for name, one in model.state_dict().items()}, path
        ),
        "w.safetensors",
    ),
    "safetensors, each tensor once": (
        lambda model, path: save_model(model, str(path)),
        "w.safetensors",
    ),
}


@pytest.mark.parametrize(("save", "name"), SAVED.values(), ids=SAVED)
@pytest.mark.parametrize("filters", [(4, 6, 8), (4, 4, 6, 8)])
def test_a_dynunet_loads_with_its_own_filters(folder, save, name, filters):
    model = untrained(dynunet.dynunet, filters)
    save(model, Path(name))
    made = adapter.for_checkpoint(Path(name))
    loaded = made.load_network()
    assert not loaded.training
    torch.testing.assert_close(logits_of(loaded, 16), logits_of(model, 16), rtol=0, atol=0)
    assert made.predict == SlidingWindow((96, 96, 96), overlap=0.25, evenly=True)
    assert (made.criteria.threshold, made.weights) == (0.3, Path(name))


def test_a_dynunet_that_is_none_is_refused(folder):
    state = untrained(dynunet.dynunet, (4, 6, 8)).state_dict()
    torch.save({name: one for name, one in state.items() if "output" not in name}, "half.pt")
    words = "half.pt does not fit the paper's nnU-Net: 'output_block.conv.conv.bias' is absent"
    with pytest.raises(SegxaiError, match=words):
        dynunet.load_dynunet(Path("half.pt"))
    torch.save(torch.nn.Linear(2, 2).state_dict(), "other.pt")
    with pytest.raises(SegxaiError, match="'input_block.conv1.conv.weight' is absent"):
        dynunet.load_dynunet(Path("other.pt"))
