"""Checkpoints of lesion networks: their tensors unwrapped, checked and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from segxai import SegxaiError, one_line, read_tensors, unwrap


@dataclass(frozen=True)
class Kind:
    """A kind of network whose weights are looked for in a file.

    Parameters
    ----------
    name : str
        What messages call the network.
    first : str
        Name of a tensor that every such network has.
    description : str
        How such a network is built, for messages.
    """

    name: str
    first: str
    description: str

    def misfit(self, path: Path, problem: str) -> SegxaiError:
        """Build the error for a file that holds another network."""
        return SegxaiError(
            f"{path} does not fit {self.name}: {problem}; expected {self.description}"
        )


def read_state(path: Path, kind: Kind, key: str | None = None) -> dict[str, Tensor]:
    """Read the tensors under their network's own names, without the wrappers of training scripts.

    Parameters
    ----------
    key : str, optional
        The set of weights to take, if the file holds several; see `unwrap`.

    Raises
    ------
    SegxaiError
        If no part of the file has the tensor that every network of the kind has, or several have.
    """
    found = unwrap(read_tensors(path), [kind.first], key=key, name=path.name)
    if kind.first not in found:
        raise kind.misfit(path, f"{kind.first!r} is absent")
    return found


def width(state: Mapping[str, Tensor], name: str, kind: Kind, path: Path) -> int:
    """Read the number of output channels of a 3D convolution.

    Raises
    ------
    SegxaiError
        If it is absent, or not a 3D convolution.
    """
    found = _shape(state.get(name))
    if len(found) != 5:
        raise kind.misfit(path, f"{name!r} is {found or 'absent'} and should have 5 axes")
    return found[0]


def fill(model: nn.Module, state: Mapping[str, Tensor], kind: Kind, path: Path) -> None:
    """Load the tensors into the network; every name and shape must match.

    Raises
    ------
    SegxaiError
        If one does not match; the message names the first.
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
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise kind.misfit(path, one_line(error)) from error


def _shape(value: object) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
