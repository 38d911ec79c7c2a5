"""The embedded network: a small 3D U-Net that segments multiple-sclerosis lesions."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from monai.networks.nets.unet import UNet
from safetensors.torch import load_file
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line

CHANNELS = ("flair", "mprage")
CLASSES = ("background", "lesion")
WIDTHS = (16, 32, 64, 128)
FIRST = "model.0.conv.weight"  # of the tensors of MONAI's UNet
WINDOW = (96, 96, 96)
OVERLAP = 0.25
THRESHOLD = 0.2


def unet(widths: Sequence[int] = WIDTHS) -> nn.Module:
    """The architecture with random weights: (batch, 2, x, y, z) to logits of the same grid.

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
    """Where the embedded weights lie."""
    return Path(__file__).parent / "weights" / "unet.safetensors"


def load_unet(checkpoint: Path | None = None) -> nn.Module:
    """The network in eval mode, with the embedded weights or those of a checkpoint.

    Parameters
    ----------
    checkpoint
        A `.safetensors` file, or a file of `torch.save` that holds tensors and nothing that runs
        code on loading. Its network may have other widths and another depth than the embedded one;
        the wrappings of training scripts ("state_dict", "module.") are taken off.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or belongs to another architecture.
    """
    path = checkpoint or weights_file()
    state = _unwrapped(_read(path), path)
    model = unet(_widths(state, path))
    _fill(model, state, path)
    return model.eval()


def _read(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds."""
    if not path.is_file():
        raise SegxaiError(f"no checkpoint at {path}; give a .safetensors or a PyTorch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # of pickles that are no checkpoint, refused below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise SegxaiError(
            f"cannot read the checkpoint {path}: it is no file of tensors alone, and anything else "
            "could run code on loading; save it by torch.save(network.state_dict(), FILE)"
        ) from error
    # Readers raise what their format's parser raises: zip, JSON, operating system.
    except Exception as error:
        raise SegxaiError(f"cannot read the checkpoint {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SegxaiError(f"{path} holds a {type(content).__name__}; expected a state dict")
    return content


def _unwrapped(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors by MONAI's names, from within what training scripts wrap them in."""
    for part in (content, *content.values()):
        names = [str(name) for name in part] if isinstance(part, Mapping) else []
        first = next((name for name in names if name.endswith(FIRST)), None)
        if first is not None:
            prefix = first.removesuffix(FIRST)
            kept = [name for name in names if name.startswith(prefix)]
            return {name.removeprefix(prefix): part[name] for name in kept}
    raise _does_not_fit(path, f"{FIRST!r} is absent")


def _widths(state: Mapping[str, Tensor], path: Path) -> list[int]:
    """Output channels of the convolutions on the way down, and at the bottom."""
    widths, level = [], "model."
    while (name := f"{level}0.conv.weight") in state:
        widths.append(_width(state, name, path))
        level += "1.submodule."
    return [*widths, _width(state, f"{level}conv.weight", path)]


def _width(state: Mapping[str, Tensor], name: str, path: Path) -> int:
    found = _shape(state.get(name))
    if len(found) != 5:
        raise _does_not_fit(path, f"{name!r} is {found or 'absent'} and should have 5 axes")
    return found[0]


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put the tensors into the network; every name and shape must fit."""
    expected = {name: _shape(value) for name, value in model.state_dict().items()}
    found = {name: _shape(value) for name, value in state.items()}
    wrong = sorted(set(expected.items()) ^ set(found.items()))
    if wrong:
        name = wrong[0][0]
        raise _does_not_fit(
            path,
            f"{name!r} is {found.get(name, 'absent')} and should be {expected.get(name, 'absent')}",
        )
    model.load_state_dict(state)


def _shape(value: object) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _does_not_fit(path: Path, problem: str) -> SegxaiError:
    return SegxaiError(
        f"{path} does not fit the lesion network: {problem}; it is a 3D UNet of MONAI with 2 "
        "channels, 2 classes, strides of 2, batch norm and no residual units"
    )
