"""Engines: the ways to compute the rows of an instance, and the choice of one for a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.errors import unknown_name
from segxai.rows.batch import RowBatch
from segxai.rows.cotangent import CannotCarryError, Tape
from segxai.rows.lowrank import LowRank
from segxai.rows.window_pass import Members, Pass, Voxels, dense_rows, forward_pass, windowed_rows
from segxai.segment.predictor import Predictor
from segxai.types import ENGINES

Rows = Callable[[Members], RowBatch]
# Limits of a batch: its rows, and the bytes of its widest tensor. On a CPU, larger batches are
# hardly faster, large tensors are mapped anew each time, and peak memory would grow with the
# instance.
MOST_ROWS, BATCH_BYTES = 8, 2**26
MOST_ROWS_ON_GPU, BATCH_BYTES_ON_GPU = 64, 2**30


@runtime_checkable
class Engine(Protocol):
    """A way to compute the rows of some voxels in one window."""

    @property
    def batch(self) -> int:
        """The largest number of rows computed at once."""
        ...

    def rows_of(self, one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> Rows:
        """Take all of an instance's voxels in a window; return a function that computes rows."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what is worth keeping about the rows computed so far."""
        ...


@dataclass(frozen=True)
class Dense:
    """The engine that computes every row on the whole of its window."""

    batch: int = 1

    def rows_of(self, one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> Rows:
        """Return a function that computes rows; they share only the forward pass."""
        return lambda members: dense_rows(one, voxels[members], weights[members])

    def facts(self) -> dict[str, Any]:
        """Return no facts, since rows are exact."""
        return {}


@dataclass(frozen=True)
class Windowed:
    """The engine that computes every row on the box where it can differ from 0."""

    batch: int = 16

    def rows_of(self, one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> Rows:
        """Return a function that computes rows; they share only the forward pass."""
        return lambda members: windowed_rows(one, voxels[members], weights[members])

    def facts(self) -> dict[str, Any]:
        """Return no facts, since rows are exact."""
        return {}


def make_engine(name: str, batch: int | None = None, tolerance: float | None = None) -> Engine:
    """Make the engine with this name; only "lowrank" has a tolerance.

    Raises
    ------
    SegxaiError
        If there is no such engine.
    """
    given: dict[str, Any] = {} if batch is None else {"batch": batch}
    if name == "lowrank":
        if tolerance is not None:
            given["tolerance"] = tolerance
        return LowRank(**given)
    if name == "windowed":
        return Windowed(**given)
    if name == "dense":
        return Dense(**given)
    raise unknown_name("engine", name, ENGINES)


@dataclass(frozen=True)
class EngineChoice:
    """The engine chosen for a network, and the reason.

    Parameters
    ----------
    name : {"windowed", "dense", "lowrank"}
        As in `ENGINES`.
    batch : int
        The largest number of rows computed at once.
    reason : str
        An explanation for the user.
    """

    name: str
    batch: int
    reason: str

    def make(self, tolerance: float | None = None) -> Engine:
        """Make the engine, ready to compute."""
        return make_engine(self.name, self.batch, tolerance)


def find_engine(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    voxels: Voxels,
    *,
    engine: str = "auto",
    batch: int | None = None,
) -> EngineChoice:
    """Choose the engine that suits a network, from a row of the first voxel in its first window.

    "auto" takes "windowed" if a row keeps to a box through the whole network, otherwise "dense",
    and never an approximation. If no batch is given, it is as large as keeps its widest tensor
    within a budget.

    Raises
    ------
    SegxaiError
        If there is no such engine, or it cannot work with the network.
    """
    if engine not in ("auto", *ENGINES):
        raise unknown_name("engine", engine, ("auto", *ENGINES))
    dense = batch or (16 if image.is_cuda else 1)  # on a CPU one row at a time is fastest
    if engine == "dense":
        return EngineChoice("dense", dense, "as asked")
    if engine != "auto" and batch:
        return EngineChoice(engine, batch, "as asked")
    tape = Tape(exact=engine != "lowrank")
    try:
        found, whole = _first_row(predictor, image, voxels, tape)
    except CannotCarryError as error:
        if engine != "auto":
            raise
        return EngineChoice("dense", dense, str(error))
    most, budget = (
        (MOST_ROWS, BATCH_BYTES) if not image.is_cuda else (MOST_ROWS_ON_GPU, BATCH_BYTES_ON_GPU)
    )
    fits = batch or _power_of_two(min(most, budget // tape.largest))
    if engine != "auto":
        return EngineChoice(engine, fits, "as asked")
    if tape.densified:
        return EngineChoice(
            "dense", dense, f"a row spreads over the whole window at {tape.densified[0]}"
        )
    return EngineChoice("windowed", fits, f"a row keeps to {found} of the window's {whole} voxels")


def _first_row(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], voxels: Voxels, tape: Tape
) -> tuple[str, str]:
    """Compute a row, recorded on a tape; return the row's size and its window's size as text."""
    covering = (w for w in predictor.layout.windows if predictor.covers(w, voxels).any())
    window = next(covering, predictor.layout.windows[0])
    one = forward_pass(predictor.coarse_only(), image, window)
    first = voxels[window.contains(voxels)][:1]
    if predictor.readout is not None:  # voxels are not on the network's grid: any logit will do
        first = np.array([[size // 2 for size in one.logits.shape[2:]]])
    found = windowed_rows(one, first, torch.ones(1, one.logits.shape[1]), tape)
    row, whole = ("x".join(map(str, n)) for n in (found.values.shape[2:], one.leaf.shape[2:]))
    return row, whole


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number, at least 1; such batches are compact."""
    return 1 << max(number, 1).bit_length() - 1
