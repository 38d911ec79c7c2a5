"""Progress of a long command: its warnings as lines, and a last line if it ends early."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from segxai.cli.terminal import TerminalProgress, warnings_said_by
from segxai.errors import SegxaiError, collecting, one_line


@contextmanager
def watched(*, afterwards: str) -> Iterator[TerminalProgress]:
    """Show progress on stderr; `afterwards` tells what happens to the work if it is interrupted.

    Raises
    ------
    SegxaiError
        If memory runs out.
    """
    import torch

    progress = TerminalProgress()
    try:
        # Collected, so that each is said once, whichever step of the run raises it.
        with _interrupting(progress), warnings_said_by(progress), collecting():
            yield progress
    except KeyboardInterrupt:
        progress.close()
        progress.say(f"segxai: interrupted; {afterwards}")
        raise typer.Exit(130) from None  # what shells report for Ctrl-C
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise SegxaiError(
            f"out of memory ({one_line(error)}); give a smaller --batch or another --device; "
            f"{afterwards}"
        ) from error
    finally:
        progress.close()


@contextmanager
def _interrupting(progress: TerminalProgress) -> Iterator[None]:
    """Make Ctrl-C end the block even where Python drops the exception: in a weakref's callback."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        progress.interrupted = True
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # a job in the background ignores Ctrl-C
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
