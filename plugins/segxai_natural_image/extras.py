"""Extras: the libraries that only some models need, imported when one of these is loaded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from segxai import SegxaiError, one_line

INSTALL = "pip install 'segxai[natural]'"


def library(name: str) -> Any:
    """Import a library that comes with the extra `natural`.

    Raises
    ------
    SegxaiError
        If it is not installed, or does not work here.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0]:
            raise _broken(name, error) from error
        raise SegxaiError(f"this model needs {name}, which is not installed: {INSTALL}") from error
    # torchvision built for another torch fails with whatever its compiled operators raise.
    except (ImportError, RuntimeError, OSError) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> SegxaiError:
    return SegxaiError(
        f"this model needs {name}, which fails to import ({one_line(error)}); torch and "
        f"torchvision must come from one source: {INSTALL}"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log lines, progress bars and warnings of transformers within the block."""
    logging = library("transformers.utils.logging")
    level, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shows_bars:
            logging.enable_progress_bar()
