"""Text: numbers and facts, formatted for people."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Control characters, halves of characters, separators of lines; and what turns the direction of
# text, in which one name can look like another.
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
FORMULA = ("=", "+", "-", "@")
TURNS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str) -> str:
    r"""Escape what could command a terminal, or forge a line: names come from files of strangers.

    >>> from segxai.text import printable
    >>> print(printable("a\x1b[31m\nforged: yes"))
    a\x1b[31m\nforged: yes
    """
    return "".join(_escaped(one) if _is_unprintable(one) else one for one in text)


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE or character in TURNS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def file_name(text: str) -> str:
    r"""Make a file name of a text: what has a meaning in paths or terminals becomes a hyphen.

    >>> from segxai.text import file_name
    >>> file_name("a/b\x1b[31m.png")
    'a-b-[31m.png'
    """
    return "".join("-" if _is_unprintable(one) or one in "/\\" else one for one in text)


def file_names(texts: Iterable[str]) -> list[str]:
    r"""Make a file name of each text, and keep apart those that would be the same.

    Some file systems take no notice of case.

    >>> from segxai.text import file_names
    >>> file_names(["a/b", "a-b", "A-B"])
    ['a-b', 'a-b-2', 'A-B-3']
    """
    names: dict[str, str] = {}
    for text in texts:
        base, number = file_name(text), 1
        name = base
        while name.casefold() in names:
            number += 1
            name = f"{base}-{number}"
        names[name.casefold()] = name
    return list(names.values())


def plural(count: int, noun: str) -> str:
    """Count things: "1 patient", "2 patients".

    >>> from segxai.text import plural
    >>> plural(1, "patient"), plural(0, "case")
    ('1 patient', '0 cases')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def format_shape(shape: Iterable[int]) -> str:
    """Format a shape for a message: "182 x 218 x 182"."""
    return " x ".join(str(size) for size in shape)


def duration(seconds: float) -> str:
    """Format seconds for a person: "42 s", "7 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Format a number of bytes for a person: "1.5 GB"."""
    steps = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
    unit, name = next((step for step in steps if count >= step[0]), (1e3, "kB"))
    return f"{count / unit:.{0 if count / unit >= 10 else 1}f} {name}"


def volume(volume_mm3: float) -> str:
    """Format a volume in mm3, with one decimal below 1000: "93.0", "38608"."""
    return f"{volume_mm3:.{1 if volume_mm3 < 1000 else 0}f}"


def probability(value: float) -> str:
    """Format a probability with two decimals: "0.87"."""
    return f"{value:.2f}"


def significant(value: float) -> str:
    """Format a number with three significant digits: "0.120", "12.3", "1234", "1.2e-06"."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def spreadsheet_cell(value: Any) -> Any:
    """Write a text so that a spreadsheet does not take it for a formula; leave all else.

    >>> from segxai.text import spreadsheet_cell
    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-1.5"), spreadsheet_cell(2)
    ("'=1+1", '-1.5', 2)
    """
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(FORMULA) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def fact_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield nested facts as printable lines "name: value"; deeper levels are indented."""
    for name, value in facts.items():
        words = printable(name.replace("_", " "))
        if _is_flat(value):
            yield f"{words}: {_inline(value)}"
            continue
        yield f"{words}:"
        inner = fact_lines(value) if isinstance(value, Mapping) else map(_inline, value)
        yield from (f"  {line}" for line in inner)


def _is_flat(value: Any) -> bool:
    """Return whether a value fits on a line: it holds no mapping, or maps to plain values."""
    if isinstance(value, Mapping):
        return not any(isinstance(one, Mapping | list) for one in value.values())
    return not (isinstance(value, list) and any(isinstance(one, Mapping) for one in value))


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{name.replace('_', ' ')} {_inline(one)}" for name, one in value.items())
        return printable(", ".join(pairs)) or "none"
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
