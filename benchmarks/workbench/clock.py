"""Clock: seconds of several ways to do the same thing, in turns."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch


def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    """Measure how long the work takes, with the device's queue emptied before and after."""
    wait(device)
    started = perf_counter()
    work()
    wait(device)
    return perf_counter() - started


def wait(device: str) -> None:
    """Wait until the device has done all its queued work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    ways: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Time every way in every round, in seconds.

    The order is reversed from one round to the next, so that warming up or slowing down in the
    course of a round does not always affect the same way. The caller warms up beforehand.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found[name].append(seconds(ways[name], device))
    return found


def spread(times: list[float]) -> dict[str, float]:
    """Compute the median, the smallest and the largest."""
    return {"seconds": median(times), "fastest": min(times), "slowest": max(times)}
