"""Refusals: one line for a result file that is damaged, or made to harm its reader."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from segxai.errors import SegxaiError, one_line


class DamageError(Exception):
    """Something in a file that no result of segxai has; the message says what, and where in it."""


def refusal(path: str | os.PathLike[str], what: str) -> SegxaiError:
    """Build the error for a result file that is not as segxai writes it."""
    return SegxaiError(
        f"{path} is not a result as segxai writes it: {what}; it is damaged or made up, so get it "
        "again from where it came from"
    )


@contextmanager
def parsing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn damage, and whatever HDF5's parsers raise because of it, into one line for the user."""
    try:
        yield
    except SegxaiError:
        raise
    except DamageError as damage:
        raise refusal(path, str(damage)) from damage
    # h5py, h5netcdf and xarray raise what they stumble over: OSError, KeyError, AttributeError ...
    except Exception as error:
        raise refusal(path, f"it cannot be read ({one_line(error)})") from error


def values_of(array: xr.DataArray) -> np.ndarray:
    """Read the values of a stored array.

    Raises
    ------
    SegxaiError
        If they are damaged.
    """
    with parsing(source_of(array)):
        values: np.ndarray = array.values
    return values


def loaded(stored: xr.Dataset) -> xr.Dataset:
    """Read all values of a stored group.

    Raises
    ------
    SegxaiError
        If they are damaged.
    """
    with parsing(source_of(stored)):
        return stored.load()


def source_of(stored: xr.DataTree | xr.Dataset | xr.DataArray) -> str:
    """Return the path of the file that something was read from, for messages."""
    parts: list[Any] = (
        [stored] if isinstance(stored, xr.DataArray) else [stored, *stored.variables.values()]
    )
    known = (one.encoding.get("source") for one in parts)
    return str(next(filter(None, known), "the result"))
