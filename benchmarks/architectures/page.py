"""The page: numbers and figures between the marks of a page whose reading is written by hand."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from segxai.errors import SegxaiError


def fill(page: Path, name: str, text: str) -> None:
    """Put a text between the marks `<!-- name -->` and `<!-- end name -->` of a page.

    Raises
    ------
    SegxaiError
        If the page does not have them.
    """
    whole = page.read_text()
    pattern = rf"(<!-- {name} -->\n).*?(\n?<!-- end {name} -->)"
    filled, count = re.subn(
        pattern, lambda found: f"{found[1]}\n{text}\n\n{found[2].lstrip()}", whole, flags=re.DOTALL
    )
    if count != 1:
        raise SegxaiError(f"{page} has no place for {name!r}")
    page.write_text(filled)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table in Markdown; numbers have two digits, and what is not known is left empty."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.2f}"
    return str(value)
