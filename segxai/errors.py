"""Errors that the user can fix, and warnings about what was chosen for the user or is in doubt.

An error is one line of text and exit status 2. A warning is one line, too: it is shown, and kept in
the result.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MARK = "\x1f"  # around an option in a message: each door writes it in its own words
OPTION = re.compile(rf"{MARK}(\w+)(?:=([^{MARK}]*))?{MARK}")


class SegxaiError(Exception):
    """A mistake that the user can fix.

    The message is one line: what was asked, what was found, what is known, what to do. Everything
    that is not a `SegxaiError` is a bug of segxai or of a plugin and keeps its traceback.

    Parameters
    ----------
    text : str
        The message. Options in it are named by `option`.

    Attributes
    ----------
    text : str
        The message as it was given, for a door that writes options in its own words; `str(error)`
        has those of Python.
    """

    def __init__(self, text: str) -> None:
        super().__init__(in_words(text))
        self.text = text


class NothingFoundError(SegxaiError):
    """The model finds nothing in an image: an end for one run, a finding in a cohort."""


class SegxaiWarning(UserWarning):
    """Something about a result that the user should know: a choice that was made, or a doubt.

    Raised by `warn`. A result keeps it: `explain` in `attrs["warnings"]`, a file in the provenance
    of its runs and in the facts about its maps.

    Parameters
    ----------
    text : str
        The message, on one line. Options in it are named by `option`.

    Attributes
    ----------
    text : str
        The message as it was given; `str(warning)` names options as Python's arguments.
    """

    def __init__(self, text: str) -> None:
        super().__init__(in_words(text))
        self.text = text


_collectors: ContextVar[tuple[list[str], ...]] = ContextVar("collectors", default=())


def warn(text: str) -> None:
    """Warn the user with a `SegxaiWarning`, which the result of the current run keeps.

    Within a run, the same text is shown only once.

    Parameters
    ----------
    text : str
        The message, on one line. Options in it are named by `option`.
    """
    words, collectors = in_words(text), _collectors.get()
    is_new = all(words not in texts for texts in collectors)
    for texts in collectors:
        if words not in texts:
            texts.append(words)
    if is_new:
        warnings.warn(SegxaiWarning(text), stacklevel=2)


@contextmanager
def collecting() -> Iterator[list[str]]:
    """Collect the texts of all warnings that are raised by `warn` while the block runs, each once.

    Blocks may be nested: a warning is in the list of each.
    """
    texts: list[str] = []
    token = _collectors.set((*_collectors.get(), texts))
    try:
        yield texts
    finally:
        _collectors.reset(token)


@contextmanager
def silenced() -> Iterator[None]:
    """Neither show nor collect warnings while the block runs: it is a trial of what comes later."""
    token = _collectors.set(())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _collectors.reset(token)


def option(name: str, value: object = None) -> str:
    """Name an option in a message, perhaps with its value.

    Python shows `samples=5`, the shell `--samples 5`; without a value `samples` and `--samples`.

    Parameters
    ----------
    name : str
        A leaf of `segxai.run.options.Options`, or a parameter of `explain` or `wrap`.
    value : object, optional
        What was given; True for a switch.
    """
    return f"{MARK}{name}{MARK}" if value is None else f"{MARK}{name}={value}{MARK}"


def in_words(text: str, write: Callable[[str, str | None], str] | None = None) -> str:
    """Write the options in a message: as Python's arguments, or by a function of name and value."""
    write = write or (lambda name, value: name if value is None else f"{name}={value}")
    return OPTION.sub(lambda found: write(found[1], found[2]), text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SegxaiError:
    """Build the error for an unknown name: it lists the known names and suggests the nearest."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return SegxaiError(f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}{hint}")


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the line of another library's message that says what is wrong, to quote it in ours.

    That is the first, but the last of TorchScript's, which begins with its own traceback.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1 if "TorchScript" in lines[0] else 0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
