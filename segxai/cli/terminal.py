"""Terminal output: progress with the time left on stderr, tables on stdout."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from segxai.cli.flags import as_flags
from segxai.errors import SegxaiWarning
from segxai.text import duration, printable, probability, significant, volume

SECONDS_BETWEEN_LINES = 15.0
WIDEST_LINE = 10_000  # in a pipe there is no window to fit: nothing may be cut off

Format = Callable[[float], str]
FORMATS: dict[str, Format] = {
    "volume_mm3": volume,
    "area_px": volume,
    "mean_probability": probability,
}
IN_NOTES = ("estimate", "peak_error", "map_error", "map_error_l2", "energy_left_out")


class TerminalProgress:
    """Progress on stderr: a bar in a terminal, an occasional line in a file."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what, self._total, self._done, self._before = "", 1.0, 0.0, 0.0
        self._started = self._last_line = monotonic()
        self.interrupted = False  # whether Ctrl-C was pressed

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Start a job of `total` units, of which `done` were done earlier; close the one before."""
        self.close()
        self._what, self._total = what, max(total, 1e-9)
        self._done = self._before = done
        self._started = self._last_line = monotonic()
        if self._console.is_terminal:
            left = TextColumn("{task.fields[left]}")
            columns = (TextColumn("{task.description}"), BarColumn(), left, TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            share = min(done / self._total, 1.0)
            self._task = self._bar.add_task(what, total=1.0, left="")
            self._bar.update(self._task, completed=share)
            self._bar.start()

    def advance(self, amount: float) -> None:
        """Advance the job by `amount` units; end it if Ctrl-C was pressed."""
        if self.interrupted:
            raise KeyboardInterrupt
        self._done += amount
        share = min(self._done / self._total, 1.0)
        speed = (self._done - self._before) / max(monotonic() - self._started, 1e-9)
        text = f"{share:4.0%}"
        if speed > 0:
            text += f", {duration(max(self._total - self._done, 0.0) / speed)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=share, left=text)
        elif monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            self.say(f"{self._what}: {text.strip()}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        style = "yellow" if text.startswith("warning") else None
        self._console.print(Text(printable(as_flags(text))), style=style)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def warnings_said_by(progress: TerminalProgress) -> Iterator[None]:
    """Print warnings of Python's `warnings` module through the progress while the block runs."""

    def show(message: Warning | str, *rest: object, **more: object) -> None:
        text = message.text if isinstance(message, SegxaiWarning) else message
        progress.say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def echo(text: object, *, err: bool = False) -> None:
    """Print a line; control characters in names from files are escaped."""
    typer.echo(printable(str(text)), err=err)


def print_instances(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of `segxai.report.tables.instance_table` on stdout as a readable table."""
    if not rows:
        Console(highlight=False).print("no instance is finished yet")
        return
    names = dict.fromkeys(name for row in rows for name in row if name not in IN_NOTES)
    if not any(row["note"] for row in rows):
        names.pop("note", None)
    shown = [{**row, "note": row["note"] or " "} for row in rows]  # a dash looks like a note
    print_table(shown, {name: _heading(name) for name in names})


def _heading(column: str) -> str:
    """Break a column's name into two lines, so that the table fits into a narrow window."""
    return "\n".join(printable(column.replace("_", " ")).rsplit(" ", 1))


def print_table(rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str]) -> None:
    """Print rows on stdout as an aligned table with one column for each heading."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, heading in headings.items():
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*(_cell(row.get(name), FORMATS.get(name, significant)) for name in headings))
    console = Console(highlight=False)
    # In a narrow window text is wrapped, but no number may be cut off.
    unlimited = console.options.update(width=WIDEST_LINE)
    narrowest = console.measure(table, options=unlimited).minimum
    console.width = max(console.width, narrowest) if sys.stdout.isatty() else WIDEST_LINE
    console.print(table)


def _cell(value: Any, written: Format) -> Text:
    if value is None or value == "":
        return Text("-")
    return Text(written(value) if isinstance(value, float) else printable(str(value)))
