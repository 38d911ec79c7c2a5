"""Files of a folder of transformers: which weights count, and what a configuration may not say."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from segxai import SegxaiError, one_line, read_tensors

# As transformers chooses: the first that is there counts.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ATTENTION = ("eager", "sdpa")  # in transformers itself; any other name is a kernel to be loaded
CHOICES = ("attn_implementation", "experts_implementation")
TOP, DEPTH = ".", 2  # of the sets of weights in a file: the key of its own, and their nesting
ELSEWHERE = "transformers_weights"


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Find the files that hold a folder's weights; several, if an index lists them.

    Raises
    ------
    SegxaiError
        If there are none, or an index names a file that is not in the folder.
    """
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        raise SegxaiError(f"there is no file named {' or '.join(WEIGHTS)} in {folder.name}")
    return _listed(first) if first.suffix == ".json" else (first,)


def read_weights(folder: Path) -> dict[str, Any]:
    """Read what a folder's files hold, together, as `read_tensors` reads one of them.

    Raises
    ------
    SegxaiError
        If a file is missing, or cannot be read.
    """
    found: dict[str, Any] = {}
    for path in weight_files(folder):
        found |= {str(name): one for name, one in read_tensors(path).items()}
    return found


def sets_of(
    content: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield what could be a set of weights, after its key: each mapping, and each prefix in it."""
    tensors = {str(name): one for name, one in content.items() if isinstance(one, Tensor)}
    if tensors:
        yield ".".join(path) or TOP, tensors
    for first in dict.fromkeys(name.partition(".")[0] for name in tensors):
        start = f"{first}."
        inner = {n.removeprefix(start): one for n, one in tensors.items() if n.startswith(start)}
        yield ".".join((*path, first)), inner
    for name, one in content.items() if len(path) < DEPTH else ():
        if isinstance(one, Mapping):
            yield from sets_of(one, (*path, str(name)))


def read_object(file: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises
    ------
    SegxaiError
        If it cannot be read, or holds anything else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SegxaiError(f"{file} is not JSON ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise SegxaiError(f"{file} is not JSON of an object, but a {type(content).__name__}")
    return content


def check_config(config: Mapping[str, Any], file: Path) -> None:
    """Check that a configuration leaves the choice of weights and of code to us.

    Raises
    ------
    SegxaiError
        If it names other weights, or an implementation that would be loaded from elsewhere.
    """
    for key, value in _pairs(config):
        name = key.removeprefix("_").removesuffix("_internal")
        if name == ELSEWHERE:
            raise SegxaiError(
                f"{file} names its own file of weights, in {key!r}; remove that, and call the file "
                f"{WEIGHTS[0]}"
            )
        if name in CHOICES and value not in (None, *ATTENTION):
            raise SegxaiError(
                f"{file} chooses an implementation, in {key!r}, that could be code from elsewhere; "
                f"remove that (known: {', '.join(ATTENTION)})"
            )


def _pairs(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys and values of a configuration, and of those within it."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield key, value
            yield from _pairs(value)
    elif isinstance(config, list):
        for one in config:
            yield from _pairs(one)


def _listed(index: Path) -> tuple[Path, ...]:
    """List the files in an index, each once."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise SegxaiError(f"{index.name} has no weight_map")
    names = dict.fromkeys(places.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", "..", "."):
            raise SegxaiError(f"{index.name} names {name!r}, which is not a file in its folder")
    return tuple(index.parent / name for name in names)
