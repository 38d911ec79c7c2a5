"""Bytes of a file, broken; and the picks that all fuzzers make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator


def pick(rng: Rng, choices: Sequence[Any]) -> Any:
    """One of the choices, each as likely as the others."""
    return choices[int(rng.integers(len(choices)))]


def break_bytes(rng: Rng, path: Path, *, head: int = 400) -> str:
    """Flip, cut, blank or add bytes of a file, most often near its start; say which."""
    content = bytearray(path.read_bytes())
    kind = pick(rng, ("flip", "flip in the head", "flip in the head", "cut", "blank", "add"))
    end = min(head, len(content)) if kind == "flip in the head" else len(content)
    place = int(rng.integers(max(end, 1)))
    if kind.startswith("flip"):
        for one in rng.integers(end, size=pick(rng, (1, 1, 2, 8, 64))):
            content[one] = int(rng.integers(256))
    elif kind == "cut":
        del content[place:]
    elif kind == "blank":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    else:
        content[place:place] = rng.bytes(pick(rng, (1, 4, 500)))
    path.write_bytes(content)
    return f"{path.name}: {kind}"
