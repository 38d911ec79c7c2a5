"""Failures of a network, somebody else's code: whatever it raises becomes one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb

import torch
from torch import nn

from segxai.errors import SegxaiError, one_line

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
NOT_OF_SIZE = (TypeError, AttributeError, NameError, KeyError, ImportError)


class NetworkError(SegxaiError):
    """A failure of a network.

    Parameters
    ----------
    text : str
        The message.
    is_of_size : bool
        Whether an input of another size may not cause it.
    """

    def __init__(self, text: str, *, is_of_size: bool = False) -> None:
        super().__init__(text)
        self.is_of_size = is_of_size


@contextmanager
def failures_of_network(
    where: str, remedy: str = "", *, only_in_modules: bool = False
) -> Iterator[None]:
    """Raise what a network raises in the block as one line, with the last line of its traceback.

    Parameters
    ----------
    where : str
        What the network does in the block, for the message, such as "in its backward pass".
    remedy : str
        What to do if an input of another size may not cause the failure.
    only_in_modules : bool
        Whether the block holds other code, too: what that raises is left alone.

    Raises
    ------
    NetworkError
        If the network fails.
    MemoryError
        If memory runs out; on a GPU, `torch.OutOfMemoryError`.
    """
    try:
        yield
    except (SegxaiError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(one_line(error)) from error
        if only_in_modules and not _is_in_module(error):
            raise
        is_of_size = not isinstance(error, NOT_OF_SIZE)
        text = f"the network fails {where}: {type(error).__name__}: {one_line(error)}"
        if is_of_size and remedy:
            text += f"; {remedy}"
        raise NetworkError(text, is_of_size=is_of_size) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; on a CPU, torch has no class of error for that."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(one in str(error).lower() for one in OUT_OF_MEMORY)
    )


def _is_in_module(error: Exception) -> bool:
    """Return whether an error was raised while a module of torch was called."""
    return any(
        frame.name == nn.Module._call_impl.__name__ for frame in extract_tb(error.__traceback__)
    )
