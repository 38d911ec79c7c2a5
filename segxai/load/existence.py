"""Existence: a path that leads nowhere is answered with the nearest name. Imports nothing large."""

import difflib
from pathlib import Path

from segxai.errors import SegxaiError


def not_found(path: Path, role: str) -> SegxaiError:
    """Build the error for a file that is not there: it suggests the nearest name."""
    if not path.parent.is_dir():
        return SegxaiError(f"{role} file {path} not found: there is no folder {path.parent}")
    names = [other.name for other in path.parent.iterdir()]
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "no name in its folder is similar"
    return SegxaiError(f"{role} file {path} not found; {hint}")
