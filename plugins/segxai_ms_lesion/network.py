"""The embedded network: a small 3D U-Net that segments multiple-sclerosis lesions."""

from pathlib import Path

import torch
from monai.networks.nets.unet import UNet
from safetensors.torch import load_file
from torch import Tensor, nn

CHANNELS = ("flair", "mprage")
CLASSES = ("background", "lesion")
WINDOW = (96, 96, 96)
OVERLAP = 0.25
THRESHOLD = 0.2


def unet() -> nn.Module:
    """The architecture with random weights: (batch, 2, x, y, z) to logits of the same grid.

    Every extent must be divisible by 8, the network's total stride.
    """
    return UNet(
        spatial_dims=3,
        in_channels=len(CHANNELS),
        out_channels=len(CLASSES),
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=0,
        norm="batch",
    )


def weights_file() -> Path:
    """Where the embedded weights lie."""
    return Path(__file__).parent / "weights" / "unet.safetensors"


def load_unet(checkpoint: Path | None = None) -> nn.Module:
    """The network in eval mode, with the embedded weights or those of a checkpoint.

    Parameters
    ----------
    checkpoint
        A `.safetensors` file, or a file of `torch.save` that holds a state dict and nothing that
        runs code on loading.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or belongs to another architecture.
    """
    path = checkpoint or weights_file()
    model = unet()
    _fill(model, _read_state(path), path)
    return model.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
    from segxai.errors import SegxaiError, one_line

    if not path.is_file():
        raise SegxaiError(f"no checkpoint at {path}; give a .safetensors or a PyTorch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    # Readers raise what their format's parser raises: pickle, zip, JSON, operating system.
    except Exception as error:
        raise SegxaiError(f"cannot read the checkpoint {path}: {one_line(error)}") from error
    if not isinstance(state, dict):
        raise SegxaiError(f"{path} holds a {type(state).__name__}; expected a state dict")
    return state


def _fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put the tensors into the network; every name and shape must fit."""
    from segxai.errors import SegxaiError

    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
    wrong = sorted(set(expected.items()) ^ set(found.items()))
    if wrong:
        name = wrong[0][0]
        raise SegxaiError(
            f"{path} does not fit the lesion network: {name!r} should be "
            f"{expected.get(name, 'absent')} and is {found.get(name, 'absent')}"
        )
    model.load_state_dict(state)
