"""The embedded network: a small 3D U-Net that segments multiple-sclerosis lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from segxai_ms_lesion import FILES
from segxai_ms_lesion.checkpoints import Kind, fill, read_state, width

CHANNELS = FILES
CLASSES = ("background", "lesion")
WIDTHS = (16, 32, 64, 128)
THRESHOLD = 0.2
KIND = Kind(
    name="the lesion network",
    first="model.0.conv.weight",
    description="a 3D UNet of MONAI with 2 channels, 2 classes, strides of 2, batch norm and no "
    "residual units",
)


def unet(widths: Sequence[int] = WIDTHS) -> nn.Module:
    """Build the network with random weights: (batch, 2, x, y, z) to logits on the same grid.

    Every extent must be divisible by the network's total stride: 8 for the 4 widths of the
    embedded weights, 16 for the paper's 5, from 32 to 512.
    """
    return UNet(
        spatial_dims=3,
        in_channels=len(CHANNELS),
        out_channels=len(CLASSES),
        channels=tuple(widths),
        strides=(2,) * (len(widths) - 1),
        num_res_units=0,
        norm="batch",
    )


def weights_file() -> Path:
    """Return the path of the embedded weights."""
    return Path(__file__).parent / "weights" / "unet.safetensors"


def load_unet(checkpoint: Path | None = None, weights_key: str | None = None) -> nn.Module:
    """Load the network in eval mode, with the embedded weights or those of a checkpoint.

    Parameters
    ----------
    checkpoint
        A `.safetensors` file, or a file of `torch.save` that holds tensors and nothing that runs
        code on loading. Its network may have other widths and another depth than the embedded one;
        the wrappers that training scripts add ("state_dict", "module.") are removed.
    weights_key
        The set of weights to take from a checkpoint that holds several.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or belongs to another architecture.
    """
    path = checkpoint or weights_file()
    state = read_state(path, KIND, weights_key)
    model = unet(_widths(state, path))
    fill(model, state, KIND, path)
    return model.eval()


def _widths(state: Mapping[str, Tensor], path: Path) -> list[int]:
    """Read the output channels of the convolutions on the way down and at the bottom."""
    widths, level = [], "model."
    while (name := f"{level}0.conv.weight") in state:
        widths.append(width(state, name, KIND, path))
        level += "1.submodule."
    return [*widths, width(state, f"{level}conv.weight", KIND, path)]
