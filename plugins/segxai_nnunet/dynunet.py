"""MONAI's DynUNet with the settings of the paper's published scripts, which call it nnU-Net."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.networks.nets.dynunet import DynUNet
from segxai_ms_lesion.checkpoints import Kind, fill, read_state, width
from segxai_ms_lesion.network import CHANNELS, CLASSES
from torch import Tensor, nn

FILTERS = (16, 32, 64)
THRESHOLD = 0.3  # the paper's
KIND = Kind(
    name="the paper's nnU-Net",
    first="input_block.conv1.conv.weight",
    description="a residual 3D DynUNet of MONAI with 2 channels, 2 classes, kernels of 3, strides "
    "of 2 and instance norm; a checkpoint of nnU-Net v2 must stay in its folder, DIR/fold_X, "
    "beside DIR/plans.json",
)


def dynunet(filters: Sequence[int] = FILTERS) -> nn.Module:
    """Build the network with random weights: (batch, 2, x, y, z) to logits on the same grid.

    Every extent must be divisible by the total stride: 4 for the 3 filters of the scripts.
    """
    strides = (1, *(2,) * (len(filters) - 1))
    return DynUNet(
        spatial_dims=3,
        in_channels=len(CHANNELS),
        out_channels=len(CLASSES),
        kernel_size=(3,) * len(filters),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=tuple(filters),
        norm_name="instance",
        deep_supervision=False,
        res_block=True,
    )


def load_dynunet(path: Path, weights_key: str | None = None) -> nn.Module:
    """Load the network of a checkpoint, in eval mode.

    Parameters
    ----------
    path
        A `.safetensors` file, or a file of `torch.save` that holds tensors and nothing that runs
        code on loading. Its network may have other filters and another depth than the scripts'.
    weights_key
        The set of weights to take from a file that holds several.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or belongs to another architecture.
    """
    state = read_state(path, KIND, weights_key)
    model = dynunet(_filters(state, path))
    fill(model, _with_second_names(model, state), KIND, path)
    return model.eval()


def _filters(state: Mapping[str, Tensor], path: Path) -> list[int]:
    """Read the output channels of the blocks on the way down and at the bottom."""
    filters = [width(state, KIND.first, KIND, path)]
    while (name := f"downsamples.{len(filters) - 1}.conv1.conv.weight") in state:
        filters.append(width(state, name, KIND, path))
    return [*filters, width(state, "bottleneck.conv1.conv.weight", KIND, path)]


def _with_second_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the tensors under the other names that the network has for them.

    DynUNet holds each block twice; safetensors keeps one name of each tensor.
    """
    alike: dict[int, list[str]] = {}
    for name, value in model.state_dict().items():
        alike.setdefault(value.data_ptr(), []).append(name)
    found = dict(state)
    for names in alike.values():
        known = next((name for name in names if name in state), None)
        if known is not None:
            found.update({name: state[known] for name in names if name not in state})
    return found
