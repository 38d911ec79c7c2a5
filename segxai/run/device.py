"""The device on which a run computes."""

import torch

from segxai.errors import SegxaiError


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
