"""Terminal: progress with time left on stderr, tables on stdout."""

import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from segxai.wording import duration

SECONDS_BETWEEN_LINES = 15.0


class TerminalProgress:
    """Progress on stderr: a bar in a terminal, a line now and then in a file."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what, self._total, self._done = "", 1.0, 0.0
        self._started = self._last_line = monotonic()

    def begin(self, what: str, total: float) -> None:
        """A job of `total` units starts; one that ran before is over."""
        self.close()
        self._what, self._total, self._done = what, max(total, 1e-9), 0.0
        self._started = self._last_line = monotonic()
        if self._console.is_terminal:
            left = TextColumn("{task.fields[left]}")
            columns = (TextColumn("{task.description}"), BarColumn(), left, TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(what, total=1.0, left="")
            self._bar.start()

    def advance(self, amount: float) -> None:
        """So many more units are done."""
        self._done += amount
        share = min(self._done / self._total, 1.0)
        left = duration((monotonic() - self._started) * (1 - share) / max(share, 1e-9))
        text = f"{share:4.0%}, {left} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=share, left=text)
        elif monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            self.say(f"{self._what}: {text.strip()}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        style = "yellow" if text.startswith("warning") else None
        self._console.print(Text(text), style=style)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def print_table(rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str]) -> None:
    """Rows as an aligned table on stdout, one column for each heading."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, heading in headings.items():
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in headings))
    console = Console(highlight=False)
    # In a pipe there is no window to fit: nothing may be cut off.
    Console(
        highlight=False, width=max(console.width, 200) if not sys.stdout.isatty() else None
    ).print(table)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
