"""Options of a method's own: a frozen dataclass that it declares, filled from words or values."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segxai.errors import SegxaiError, unknown_name
from segxai.methods.method import Method

SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def own_options(method: Method, given: Mapping[str, Any]) -> Any:
    """Fill the dataclass of a method's own options; None for a method that declares none.

    Parameters
    ----------
    given : mapping
        By name: values, or words of the command line, which become the declared types.

    Raises
    ------
    SegxaiError
        If the method has no such option, or a value is not of the declared type.
    """
    if method.options is None:
        if given:
            raise SegxaiError(f"method {method.name!r} has no options of its own: {min(given)!r}")
        return None
    kinds = get_type_hints(method.options)
    known = [one.name for one in fields(method.options)]
    for name in given:
        if name not in known:
            raise unknown_name(f"option of method {method.name!r}", name, known)
    try:
        values = {name: _as(kinds[name], value) for name, value in given.items()}
    except _OtherTypeError as error:
        (name,) = (one for one in given if given[one] is error.value)
        wanted = kind_in_words(kinds[name])
        raise SegxaiError(f"{name}={error.value}: method {method.name!r} wants {wanted}") from None
    return method.options(**values)


def described(method: Method) -> list[dict[str, str]]:
    """List a method's own options: name, type, default and help, as words."""
    if method.options is None:
        return []
    kinds = get_type_hints(method.options)
    default = method.options()
    return [
        {
            "name": one.name,
            "type": kind_in_words(kinds[one.name]),
            "default": str(getattr(default, one.name)),
            "help": str(one.metadata.get("help", "")),
        }
        for one in fields(method.options)
    ]


def kind_in_words(kind: Any) -> str:
    """Describe a type to a user: "int", "zero|blur", "float or none"."""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(kind_in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{kind_in_words(get_args(kind)[0])},..."
    return "none" if kind is NoneType else str(getattr(kind, "__name__", kind))


class _OtherTypeError(Exception):
    """A value that is not of the declared type."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


def _as(kind: Any, value: Any) -> Any:
    """Convert a value to the declared type."""
    try:
        return _converted(kind, value)
    except (TypeError, ValueError, KeyError):
        raise _OtherTypeError(value) from None


def _converted(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        return {str(one): one for one in get_args(kind)}[str(value)]
    if get_origin(kind) in (Union, UnionType):
        return _first_that_fits(get_args(kind), value)
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_converted(get_args(kind)[0], part) for part in parts)
    if kind is NoneType:
        return {"none": None, "None": None}[str(value)]
    if kind is bool:
        return value if isinstance(value, bool) else SWITCH[value.lower()]
    if kind is int and isinstance(value, float | bool):
        raise TypeError(value)
    return value if isinstance(value, kind) else kind(value)


def _first_that_fits(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in sorted(kinds, key=lambda one: one in (str, Path)):  # these take any word
        try:
            return _converted(kind, value)
        except (TypeError, ValueError, KeyError):
            continue
    raise ValueError(value)
