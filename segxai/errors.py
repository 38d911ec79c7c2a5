"""Errors that the user can fix: one class, one line of text, exit status 2."""

import difflib
from collections.abc import Iterable


class SegxaiError(Exception):
    """A mistake that the user can fix.

    The message is one line: what was asked, what was found, what is known, what to do. Everything
    that is not a `SegxaiError` is a bug of segxai or of a plugin and keeps its traceback.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SegxaiError:
    """Build the error for an unknown name: it lists the known names and suggests the nearest."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return SegxaiError(f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}{hint}")


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the first line of another library's message, to quote it in one of ours."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0].strip()
    return first if len(first) <= limit else first[: limit - 3] + "..."
