"""Trial runs, which show how many classes a network has and which sizes it takes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import nn

from segxai.errors import SegxaiError
from segxai.rows.window_pass import forward_pass
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image

DIVISORS = (1, 2, 4, 8, 16, 32, 64)  # total strides of networks
LARGE = 128  # along an axis: a larger image tells nothing new
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
    except SegxaiError as error:
        for divisor, size in _rounded(window):
            if _runs(network, channels, size):
                raise SegxaiError(
                    f"the network does not take a window of {_listed(window)}; give one of "
                    f"multiples of {divisor}, such as --window {_listed(size)}"
                ) from error
        raise


def probe_whole(network: nn.Module, channels: Sequence[str], shape: Sequence[int]) -> Probe:
    """Find the classes and the divisor of a network that takes whole images, in trial runs.

    The image's sizes are tried, then the next multiples of 2, 4 ... 64. A large image is replaced
    by a smaller one whose sizes leave the same remainders.

    Raises
    ------
    SegxaiError
        If the network takes none of them.
    """
    smaller = tuple(n if n < LARGE else DIVISORS[-1] + n % DIVISORS[-1] for n in shape)
    for size in dict.fromkeys((smaller, tuple(shape))):
        for divisor in DIVISORS:
            padded = tuple(divisor * ceil(n / divisor) for n in size)
            if divisor == 1 or padded != size:
                try:
                    return Probe(_classes(network, channels, padded), divisor)
                except _SizeError:
                    continue
    return Probe(_classes(network, channels, shape))


class _SizeError(SegxaiError):
    """A failure on one size that another size may not cause."""


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
        is_about_size = any(words in str(error) for words in ("fails on an input", "network maps"))
        return _SizeError(str(error)) if is_about_size else error
    return SegxaiError(
        f"the network takes {found[1]} channels, but {len(channels)} are named: "
        f"{', '.join(channels)}; name those of the network, in its order, with --channels"
    )


def _runs(network: nn.Module, channels: Sequence[str], size: Sequence[int]) -> bool:
    try:
        _classes(network, channels, size)
    except SegxaiError:
        return False
    return True


def _rounded(window: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the nearest larger windows of multiples of 2, 4 ... 64, each once."""
    seen = {tuple(window)}
    for divisor in DIVISORS[1:]:
        size = tuple(divisor * ceil(n / divisor) for n in window)
        if size not in seen:
            seen.add(size)
            yield divisor, size


def _listed(size: Sequence[int]) -> str:
    return ",".join(map(str, size))
