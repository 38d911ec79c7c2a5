"""A pool of training cases that another process keeps renewing."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

import numpy as np
import torch

from segxai_ms_lesion.recipe.bank import StoredCases
from segxai_ms_lesion.recipe.cases import (
    Normalise,
    TrainingCase,
    open_sources,
    random_case,
    random_patch,
)

POOL_CASES = 150


class CasePool:
    """The latest cases that arrived; patches are drawn from all of them alike."""

    def __init__(self, queue: "Queue[TrainingCase] | StoredCases") -> None:
        self._queue = queue
        self._cases: deque[TrainingCase] = deque(maxlen=POOL_CASES)
        self.made = 0

    def wait_for(self, count: int) -> None:
        """Fill the pool to at least so many cases."""
        while len(self._cases) < count:
            self._add(self._queue.get())

    def refresh(self) -> None:
        """Take in a case if one is ready."""
        try:
            self._add(self._queue.get_nowait())
        except Empty:
            return

    def _add(self, case: TrainingCase) -> None:
        self._cases.append(case)
        self.made += 1

    def patches(self, count: int, size: int, random: np.random.Generator) -> list[TrainingCase]:
        """Random patches, each from a case of its own draw."""
        drawn = random.integers(len(self._cases), size=count)
        return [random_patch(self._cases[int(index)], size, random) for index in drawn]


@contextmanager
def running_pool(
    data: Path, mask_numbers: tuple[int, ...], normalise: Normalise, seed: int
) -> Iterator[CasePool]:
    """Run a pool whose cases are made in a process of their own until the block is left."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=4)
    worker = context.Process(
        target=_make_cases, args=(data, mask_numbers, normalise, seed, queue), daemon=True
    )
    worker.start()
    try:
        yield CasePool(queue)
    finally:
        worker.terminate()
        worker.join()


def _make_cases(
    data: Path,
    mask_numbers: tuple[int, ...],
    normalise: Normalise,
    seed: int,
    queue: "Queue[TrainingCase]",
) -> None:
    """Put case after case into the queue; case n depends on the seed and n alone."""
    os.nice(5)  # training comes first
    torch.set_num_threads(1)
    sources = open_sources(data, mask_numbers, normalise)
    number = 0
    while True:
        queue.put(random_case(sources, np.random.default_rng([seed, number])))
        number += 1
