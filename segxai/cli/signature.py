"""Signatures of commands: options that one command shares with another."""

import inspect
from collections.abc import Callable
from typing import Any


def with_options_of(
    other: Callable[..., Any], *, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of another function, too: typer reads them from its signature.

    The command takes them as keywords.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters.values()
        theirs = inspect.signature(other).parameters.values()
        found = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
        found += [one for one in theirs if one.name not in without]
        command.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in found}
        return command

    return decorate
