"""Trial runs, which show how many classes a network has and which sizes it takes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import nn

from segxai.errors import SegxaiError, option
from segxai.rows.window_pass import forward_pass
from segxai.segment.failures import NetworkError
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image

POWERS = (2, 4, 8, 16, 32, 64)  # total strides of most networks
OTHERS = (3, 5, 6, 7, 9, 10, 12, 14, 15, 18, 20, 24, 28, 40, 48, 96)  # patches, mostly
LARGE, STEP = 128, 64  # along an axis: a larger image tells nothing new
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")


@dataclass(frozen=True)
class Probe:
    """The result of a trial run.

    Parameters
    ----------
    classes : int
        Number of logits for each voxel.
    divisor : int
        Sizes must be multiples of it, where the whole image is the window.
    """

    classes: int
    divisor: int = 1


def probe_window(network: nn.Module, channels: Sequence[str], window: Sequence[int]) -> Probe:
    """Count the classes in a trial run on one window.

    Raises
    ------
    SegxaiError
        If the network fails on it; the message names a window that works, if one is near.
    """
    try:
        return Probe(_classes(network, channels, window))
    except NetworkError as error:
        found = fitting_size(network, channels, window)
        if found is None:
            raise
        raise SegxaiError(
            f"the network does not take a window of {_listed(window)}; give one of multiples of "
            f"{found.divisor}, such as {option('window', _listed(found.size))}"
        ) from error


def probe_whole(network: nn.Module, channels: Sequence[str], shape: Sequence[int]) -> Probe:
    """Find the classes and the divisor of a network that takes whole images, in trial runs.

    A large image is replaced by a smaller one whose sizes leave the same remainders.

    Raises
    ------
    SegxaiError
        If the network takes none of the sizes that are tried, see `fitting_size`.
    """
    is_known = any(isinstance(layer, LAYERS) for _, layer in network.named_modules())
    numbers = _strides(network) if is_known else OTHERS
    smaller = tuple(_smaller(n, numbers) for n in shape)
    for size in dict.fromkeys((smaller, tuple(shape))):
        found = fitting_size(network, channels, size)
        if found is not None:
            return Probe(_classes(network, channels, found.size), found.divisor)
    return Probe(_classes(network, channels, shape))


@dataclass(frozen=True)
class FittingSize:
    """A size that a network takes, and the number that it is a multiple of along each axis."""

    size: tuple[int, ...]
    divisor: int


def fitting_size(
    network: nn.Module, channels: Sequence[str], size: Sequence[int]
) -> FittingSize | None:
    """Find the nearest larger size that a network takes, in trial runs; None if none is found.

    The size itself is tried, then the next multiples of its layers' strides, of 2, 4 ... 64, and of
    patch sizes that are in use. A divisor counts if the next larger multiple is taken, too;
    otherwise, the size may fit by accident.

    Raises
    ------
    SegxaiError
        If the network fails for another reason than the size.
    """
    refused: set[tuple[int, ...]] = set()
    accidental = None
    for divisor in dict.fromkeys((1, *_strides(network), *POWERS, *OTHERS)):
        found = FittingSize(tuple(divisor * ceil(n / divisor) for n in size), divisor)
        if found.size in refused:
            continue
        if not _runs(network, channels, found.size):
            refused.add(found.size)
        elif divisor == 1 or _runs(network, channels, [n + divisor for n in found.size]):
            return found
        else:
            accidental = accidental or found
    return accidental


def _strides(network: nn.Module) -> list[int]:
    """List strides of convolutions that are no powers of 2, such as patches, and their doubles."""
    strides = {
        max(layer.stride) for _, layer in network.named_modules() if isinstance(layer, LAYERS)
    }
    return [stride * times for stride in sorted(strides - {1, *POWERS}) for times in (1, 2, 4, 8)]


def _smaller(size: int, numbers: Sequence[int]) -> int:
    """Return a smaller size that is a multiple of the same of these numbers, if it is large."""
    alike = (
        smaller
        for smaller in range(STEP + size % STEP, size, STEP)
        if all((smaller % one == 0) == (size % one == 0) for one in numbers)
    )
    return size if size < LARGE else next(alike, size)


def _classes(network: nn.Module, channels: Sequence[str], size: Sequence[int]) -> int:
    """Count the logits for each voxel."""
    numbers = torch.linspace(-1, 1, len(channels) * int(torch.tensor(size).prod()))
    image, layout = numbers.reshape(1, len(channels), *size), whole_image(size)
    with frozen(network):
        try:
            one = forward_pass(Predictor(network, layout), image, layout.windows[0])
        except SegxaiError as error:
            raise _explained(error, network, channels, size) from error.__cause__
    return one.logits.shape[1]


def _explained(
    error: SegxaiError, network: nn.Module, channels: Sequence[str], size: Sequence[int]
) -> SegxaiError:
    """Reword an error that comes from a wrong number of channels or of axes."""
    axes = {len(one.kernel_size) for _, one in network.named_modules() if isinstance(one, LAYERS)}
    if len(axes) == 1 and len(size) not in axes:
        return SegxaiError(
            f"the network convolves along {axes.pop()} axes, but an image or a window of "
            f"{_listed(size)} has {len(size)}"
        )
    found = CHANNELS.search(f"{error} {error.__cause__}")
    if found is None or int(found[2]) != len(channels):
        return error
    return SegxaiError(
        f"the network takes {found[1]} channels, but {len(channels)} are named: "
        f"{', '.join(channels)}; name those of the network, in its order, with --channels"
    )


def _runs(network: nn.Module, channels: Sequence[str], size: Sequence[int]) -> bool:
    try:
        _classes(network, channels, size)
    except NetworkError as error:
        if not error.is_of_size:
            raise
        return False
    return True


def _listed(size: Sequence[int]) -> str:
    return ",".join(map(str, size))
