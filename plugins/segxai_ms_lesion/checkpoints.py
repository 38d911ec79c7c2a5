"""Files of weights: read without running anything, taken out of their wrappings, put in place."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line

Safe = Callable[..., Any] | tuple[Callable[..., Any], str]


@dataclass(frozen=True)
class Kind:
    """A kind of network whose weights are looked for in a file.

    Parameters
    ----------
    name : str
        For messages: what a file of another network does not fit.
    first : str
        Name of a tensor that every such network has.
    description : str
        How such a network is made, for messages.
    """

    name: str
    first: str
    description: str

    def misfit(self, path: Path, problem: str) -> SegxaiError:
        """The error for a file that holds another network."""
        return SegxaiError(f"{path} does not fit {self.name}: {problem}; it is {self.description}")


def read_checkpoint(
    path: Path,
    safe: Sequence[Safe] = (),
    remedy: str = "save it by torch.save(network.state_dict(), FILE)",
) -> Mapping[str, Any]:
    """What a checkpoint holds, tensors on the CPU.

    Parameters
    ----------
    path
        A `.safetensors` file, or a file of `torch.save`.
    safe : sequence of classes and functions
        What may be called on loading, besides what makes tensors and Python's own numbers and
        containers; with its name in the file, where that is another one, in a tuple.
    remedy : str
        What to do about a file that needs anything else, for the message.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or holds anything else.
    """
    if not path.is_file():
        raise SegxaiError(f"no checkpoint at {path}; give a .safetensors or a PyTorch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # of pickles that are no checkpoint, refused below
            warnings.simplefilter("ignore")
            content = _load(path, safe)
    except UnpicklingError as error:
        raise SegxaiError(
            f"cannot read the checkpoint {path}: it is no file of tensors alone, and anything else "
            f"could run code on loading; {remedy}"
        ) from error
    # Readers raise what their format's parser raises: zip, JSON, operating system.
    except Exception as error:
        raise SegxaiError(f"cannot read the checkpoint {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SegxaiError(f"{path} holds a {type(content).__name__}; expected a state dict")
    return content


def _load(path: Path, safe: Sequence[Safe]) -> object:
    """A mapped file is read where it is needed: an optimizer's state beside the weights is not."""
    with torch.serialization.safe_globals(list(safe)):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))


def unwrapped(content: Mapping[str, Any], kind: Kind, path: Path) -> dict[str, Tensor]:
    """The tensors by their network's names, from within what training scripts wrap them in.

    Raises
    ------
    SegxaiError
        If no part of the content has the tensor that every network of the kind has.
    """
    for part in (content, *content.values()):
        names = [str(name) for name in part] if isinstance(part, Mapping) else []
        first = next((name for name in names if name.endswith(kind.first)), None)
        if first is not None:
            prefix = first.removesuffix(kind.first)
            kept = [name for name in names if name.startswith(prefix)]
            return {name.removeprefix(prefix): part[name] for name in kept}
    raise kind.misfit(path, f"{kind.first!r} is absent")


def width(state: Mapping[str, Tensor], name: str, kind: Kind, path: Path) -> int:
    """Output channels of a 3D convolution.

    Raises
    ------
    SegxaiError
        If it is absent, or no 3D convolution.
    """
    found = _shape(state.get(name))
    if len(found) != 5:
        raise kind.misfit(path, f"{name!r} is {found or 'absent'} and should have 5 axes")
    return found[0]


def fill(model: nn.Module, state: Mapping[str, Tensor], kind: Kind, path: Path) -> None:
    """Put the tensors into the network; every name and shape must fit.

    Raises
    ------
    SegxaiError
        Naming the first tensor that does not.
    """
    expected = {name: _shape(value) for name, value in model.state_dict().items()}
    found = {name: _shape(value) for name, value in state.items()}
    wrong = sorted(set(expected.items()) ^ set(found.items()))
    if wrong:
        name = wrong[0][0]
        raise kind.misfit(
            path,
            f"{name!r} is {found.get(name, 'absent')} and should be {expected.get(name, 'absent')}",
        )
    model.load_state_dict(state)


def _shape(value: object) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
