"""Scaffold: the complete package of a new plugin, made from the template."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from segxai.errors import SegxaiError

MODEL = "my_model"  # the name of the template's plugin; its package is my-model
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40
LEFT_OUT = ("__pycache__",)  # which an installed package has


def template() -> dict[str, str]:
    """Read the text of each file of the template, by its path in the package."""
    return dict(sorted(_texts(resources.files("segxai.cli") / "template", "")))


def files_of(name: str) -> dict[str, str]:
    """Make the text of each file of a new plugin's package, by its path.

    Raises
    ------
    SegxaiError
        If the name is not valid for an entry point and a module.
    """
    check_name(name)
    return {_renamed(path, name): _renamed(text, name) for path, text in template().items()}


def check_name(name: str) -> None:
    """Check that a plugin and its module can have this name.

    Raises
    ------
    SegxaiError
        If they cannot; the message suggests the nearest valid name.
    """
    if NAME.fullmatch(name) and len(name) <= LONGEST:
        return
    words = "_".join(re.findall("[a-z0-9]+", name.lower()))
    nearest = words.lstrip("0123456789_")[:LONGEST].rstrip("_")
    hint = f"; {nearest!r} would do" if nearest else ""
    raise SegxaiError(
        f"{name!r} cannot name a plugin and its Python module: give at most {LONGEST} lower-case "
        f"letters and digits, with single underscores between them, a letter first{hint}"
    )


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the files of a new plugin's package to a new or empty folder.

    Raises
    ------
    SegxaiError
        If the name is not valid, the folder is a file or not empty, or it cannot be written.
    """
    files = files_of(name)
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise SegxaiError(f"{folder} already exists; name another --folder")
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SegxaiError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / path for path in files]


def _texts(folder: Traversable, before: str) -> list[tuple[str, str]]:
    found = []
    for one in folder.iterdir():
        path = f"{before}{one.name}"
        if one.is_file():
            found.append((path, one.read_text(encoding="utf-8")))
        elif one.name not in LEFT_OUT:
            found += _texts(one, f"{path}/")
    return found


def _renamed(text: str, name: str) -> str:
    """Rename the template's plugin in a text; distributions have dashes for underscores."""
    return text.replace(MODEL, name).replace(MODEL.replace("_", "-"), name.replace("_", "-"))
