"""Scaffold: the package of a new plugin, complete, made from the template."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from segxai.errors import SegxaiError

MODEL = "my_model"  # what the template's plugin is called, and its package my-model
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40
LEFT_OUT = ("__pycache__",)  # of an installed package


def template() -> dict[str, str]:
    """The text of each file of the template, by its path in the package."""
    return dict(sorted(_texts(resources.files("segxai") / "template", "")))


def files_of(name: str) -> dict[str, str]:
    """The text of each file of a new plugin's package, by its path.

    Raises
    ------
    SegxaiError
        If the name cannot be that of an entry point and of a module.
    """
    check_name(name)
    return {_renamed(path, name): _renamed(text, name) for path, text in template().items()}


def check_name(name: str) -> None:
    """Nothing, if a plugin and its module can have this name.

    Raises
    ------
    SegxaiError
        If not: the nearest that can is named.
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
    """The files of a new plugin's package, written to a folder that is made or is empty.

    Raises
    ------
    SegxaiError
        If the name will not do, or there is something in the folder's place, or it cannot be
        written.
    """
    files = files_of(name)
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise SegxaiError(f"{folder} is there already; name another --folder")
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
    """The template's text for another plugin; distributions have dashes for underscores."""
    return text.replace(MODEL, name).replace(MODEL.replace("_", "-"), name.replace("_", "-"))
