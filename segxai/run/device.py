"""The device on which a run computes, and the memory that the process takes there."""

from pathlib import Path
from typing import Final

import torch

from segxai.errors import SegxaiError

STATUS: Final = Path("/proc/self/status")  # of Linux


def find_device(name: str) -> torch.device:
    """Find the device of this name; "auto" is the first GPU, or the CPU.

    Raises
    ------
    SegxaiError
        If no such device is available.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(f"cuda:{number}" for number in range(count))]
    if name == "auto":
        return torch.device(known[1] if count else "cpu")
    if (f"{name}:0" if name == "cuda" else name) not in known:
        raise SegxaiError(f"device {name!r} is not available; known: auto, {', '.join(known)}")
    return torch.device(name)


def peak_memory_bytes() -> int:
    """Return the most memory (RAM) that this process has taken so far; 0 where that is not told."""
    if not STATUS.exists():
        return 0
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return 1024 * int(lines["VmHWM"].split()[0])
