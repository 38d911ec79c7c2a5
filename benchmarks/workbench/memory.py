"""Memory: what a piece of work needs at its peak, in a process of its own.

A process keeps memory that it has freed, so a second measurement in the same process would see
less. On a GPU the allocator itself counts.
"""

import ctypes
import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a fresh process, and return its result.

    The process has as many threads as this one. Whatever the function raises is raised here.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit what is allocated here
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(with_threads, torch.get_num_threads(), function, arguments).result()


def with_threads(threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function with this number of threads, and return its result."""
    torch.set_num_threads(threads)
    return function(*arguments)


def peak_bytes(work: Callable[[], Any], device: str = "cpu") -> int:
    """Measure the most memory held during the work, beyond what is held before it."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    trim()
    before = start()
    work()
    return max(resident_peak() - before, 0)


def trim() -> None:
    """Return freed memory to the system, where its C library can."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)


def start() -> int:
    """Reset the peak to what is held now, where the system allows it, and return the peak."""
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return resident_peak()
    return resident_peak()


def resident_peak() -> int:
    """Read the largest resident size of this process since the last reset."""
    if STATUS.exists():
        fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        if "VmHWM" in fields:
            return 1024 * int(fields["VmHWM"].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
