"""Clock: seconds of several ways to do the same, in turns."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch


def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    """How long it takes, the device's queue emptied before and after."""
    wait(device)
    started = perf_counter()
    work()
    wait(device)
    return perf_counter() - started


def wait(device: str) -> None:
    """Until the device has done all that it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    ways: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every way in every round.

    The order turns round from one round to the next: what warms up or slows down in the course of
    a round does not always meet the same way. Nothing here warms up: the caller has.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found[name].append(seconds(ways[name], device))
    return found


def spread(times: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"seconds": median(times), "fastest": min(times), "slowest": max(times)}
