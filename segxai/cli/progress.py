"""Progress of a long command: its warnings as lines, and a last line if it ends early."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from segxai.cli.terminal import TerminalProgress, warnings_said_by
from segxai.errors import SegxaiError, one_line


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
        with warnings_said_by(progress):
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
