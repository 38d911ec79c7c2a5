"""Documentation as programs: the code blocks of a Markdown page, run as its reader would."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from segxai.cli import app

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^(<!-- run -->\n)?```(\w+)?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISED = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what follows that, its text, its line in the page.

    `runs` tells whether `<!-- run -->` stands before it.
    """

    language: str
    info: str
    text: str
    line: int
    runs: bool


def pages() -> list[Path]:
    """The README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            found[2] or "", found[3], found[4], text[: found.start(4)].count("\n"), bool(found[1])
        )
        for found in FENCED.finditer(text)
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each line of a shell block that calls segxai."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and Path(words[0]).name == "segxai":
            yield words[1:]


def parse(words: list[str]) -> None:
    """Nothing, if the command line takes these words; else its own error."""
    group = get_command(app)
    with group.make_context("segxai", list(words)) as context:
        name, command, rest = group.resolve_command(context, words)
        command.make_context(name, rest, parent=context)


def run_page(page: Path) -> None:
    """Run every Python block of a page in one namespace, and the marked shell blocks, in order.

    Where a block prints, `print(...)  # text` promises the line that comes out.
    """
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "python":
            save_if_titled(block)
            run_python(block, page.name, namespace)
        elif block.language == "sh" and block.runs:
            for words in commands(block):
                run_command(words)


def save_if_titled(block: Block) -> None:
    """A block with a title is a file in the current folder, as its reader would save it."""
    if found := re.search(r'title="([^"]+)"', block.info):
        Path(found[1]).write_text(block.text)


def run_python(block: Block, name: str, namespace: dict[str, Any]) -> None:
    code = compile("\n" * block.line + block.text, name, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    assert printed.getvalue().splitlines() == PROMISED.findall(block.text)


def run_command(words: list[str]) -> str:
    """What a command prints; it must end well."""
    result = CliRunner().invoke(app, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"segxai {shlex.join(words)}: {result.output}"
    return result.output
