"""Lengths that a user gives in voxels or in millimetres."""

import re
from collections.abc import Sequence

from segxai import SegxaiError

FORM = re.compile(r"\d+(\.\d+)?(,\d+(\.\d+)?)*(mm)?")


def check_lengths(name: str, text: str) -> None:
    """Raise SegxaiError unless the text of an option gives lengths: "8", "8,8,4", "12mm"."""
    if not FORM.fullmatch(text) or not all(float(part) > 0 for part in _parts(text)):
        raise SegxaiError(
            f"{name}={text}: give a length above 0 in voxels or in mm, for all axes or for each: "
            "8, 12mm, 8,8,4 or 12,12,6mm"
        )


def in_voxels(name: str, text: str, spacing: Sequence[float]) -> tuple[int, ...]:
    """Convert lengths to whole voxels along each axis, at least 1.

    Raises
    ------
    SegxaiError
        If there is not one length, nor one for each axis.
    """
    given = [float(part) for part in _parts(text)]
    if len(given) not in (1, len(spacing)):
        raise SegxaiError(
            f"{name}={text}: give one length, or {len(spacing)}, one for each axis of this image"
        )
    lengths = given * len(spacing) if len(given) == 1 else given
    steps = spacing if text.endswith("mm") else (1.0,) * len(spacing)
    return tuple(max(round(n / step), 1) for n, step in zip(lengths, steps, strict=True))


def _parts(text: str) -> list[str]:
    return text.removesuffix("mm").split(",")
