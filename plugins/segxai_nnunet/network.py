"""The network that nnU-Net's plans describe, with the weights of one fold or of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from segxai_ms_lesion.checkpoints import Kind, fill
from torch import Tensor, nn

from segxai import SegxaiError, one_line
from segxai_nnunet.architectures import find_part, find_unet


class Ensemble(nn.Module):
    """The mean of the logits of networks of one kind: nnU-Net's way to combine folds."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(networks)

    def forward(
        self, image: Float[Tensor, "1 channel *window"]
    ) -> Float[Tensor, "1 class *window"]:
        """Compute the mean of the networks' logits."""
        total = self.folds[0](image)
        for network in list(self.folds)[1:]:
            total = total + network(image)
        return total / len(self.folds)


def build_network(architecture: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """Build the network with random weights, without deep supervision.

    Parameters
    ----------
    architecture : mapping
        As in nnU-Net's plans: the name of a class, its arguments, and which of these name classes.

    Raises
    ------
    SegxaiError
        If a class is unknown, or does not take the arguments.
    """
    kind: Any = find_unet(architecture["network_class_name"])
    arguments = dict(architecture["arch_kwargs"])
    try:
        for name in architecture["_kw_requires_import"]:
            if arguments.get(name) is not None:
                arguments[name] = find_part(arguments[name])
        network: nn.Module = kind(
            input_channels=channels, num_classes=outputs, deep_supervision=False, **arguments
        )
        network.apply(kind.initialize)
    except SegxaiError:
        raise
    except Exception as error:  # arguments of a file: whatever the layers raise about them
        raise SegxaiError(
            f"cannot build a {kind.__name__} from the plans' arguments: {one_line(error)}"
        ) from error
    return network


def load_folds(
    architecture: Mapping[str, Any],
    channels: int,
    outputs: int,
    weights: Mapping[Path, Mapping[str, Any]],
) -> nn.Module:
    """Load the network with the weights of a fold, or the mean of several, in eval mode.

    Parameters
    ----------
    architecture : mapping
        See `segxai_nnunet.architectures.architecture_of`.
    weights : mapping
        The tensors in each fold's file.

    Raises
    ------
    SegxaiError
        If the weights do not fit the network.
    """
    kind = Kind(
        name=f"the network of the plans with {channels} channels and {outputs} outputs",
        first="",
        description="the one that nnUNetTrainer builds; your own trainer may build another",
    )
    networks = []
    for path, state in weights.items():
        network = _without_initialising(architecture, channels, outputs)
        fill(network, {name: _of_three_axes(one) for name, one in state.items()}, kind, path)
        networks.append(network.eval())
    return networks[0] if len(networks) == 1 else Ensemble(networks).eval()


def _of_three_axes(value: Tensor) -> Tensor:
    """Turn a 2D kernel into a 3D one of one voxel's thickness; leave all else as it is."""
    return value.unsqueeze(2) if isinstance(value, Tensor) and value.ndim == 4 else value


def _without_initialising(
    architecture: Mapping[str, Any], channels: int, outputs: int
) -> nn.Module:
    """Build the network, and leave the random generator as it was before."""
    with torch.random.fork_rng(devices=[]):
        return build_network(architecture, channels, outputs)
