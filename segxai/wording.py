"""Wording: numbers as a person reads them."""


def duration(seconds: float) -> str:
    """Seconds for a person: "42 s", "7 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for a person: "1.5 GB"."""
    steps = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
    unit, name = next((step for step in steps if count >= step[0]), (1e3, "kB"))
    return f"{count / unit:.{0 if count / unit >= 10 else 1}f} {name}"
