"""A trial: calls of the method itself, which show what it takes beside the passes of the network.

That is noise, folds and sums, and for a method of somebody else everything.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from segxai.errors import silenced
from segxai.methods.method import Context, Method, takes_rows
from segxai.methods.options import MethodOptions
from segxai.segment.predictor import Predictor
from segxai.types import Instance

CALL_SECONDS: Final = 1.0  # of the network, about, in a trial
MOST_SECONDS: Final = 5.0  # after which a call is stopped, once it says how much it has done
FEWEST_ROWS: Final = 4


@dataclass(frozen=True)
class CopySeconds:
    """Seconds of one noisy copy of an instance: whatever its rows, and for each row."""

    fixed: float
    row: float

    def of(self, rows: int) -> float:
        """Return the seconds of a copy with so many rows."""
        return self.fixed + rows * self.row


def is_foreign(method: Method) -> bool:
    """Return whether a method comes from elsewhere: nobody knows how many passes it makes."""
    return not str(getattr(method.attribute, "__module__", "")).startswith("segxai.")


class _EnoughError(BaseException):
    """What stops a call that is only timed; no `except Exception` of a method's may catch it."""


@dataclass
class _Call:
    """A timed call: when it started, and which share of its work it has reported."""

    started: float
    done: float = 0.0

    def tick(self, share: float) -> None:
        """Count work, and stop the call if it has taken long enough to know its speed."""
        self.done += share
        if self.done > 0 and perf_counter() - self.started > MOST_SECONDS:
            raise _EnoughError


def timed_by_calls(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    method: Method,
    options: MethodOptions,
    context: Context,
    expected: CopySeconds,
) -> CopySeconds | None:
    """Time the method on one noisy copy; None if not even few rows are expected to be quick.

    Where rows are computed one by one, and not all are expected to be quick, two calls with few
    rows tell what each row takes. A method of somebody else gets one call with the fewest rows. A
    call is stopped after some seconds if it has reported work by then.
    """

    def seconds(rows: int) -> float:
        few = with_few_rows(instance, rows) if rows < count else instance
        call = _Call(perf_counter())
        ticking = replace(context, tick=call.tick)
        with silenced(), suppress(_EnoughError):
            method.attribute(predictor, image, few, once, ticking)
            call.done = 1.0
        wait_for(image)
        return (perf_counter() - call.started) / call.done

    noise = replace(options.noise, samples=1, tolerance=None, antithetic=False)
    once, count = replace(options, noise=noise), len(instance.row_voxels)
    one_by_one = takes_rows(context.aggregator)
    if is_foreign(method):
        rows = min(count, FEWEST_ROWS) if one_by_one else count
        took = seconds(rows)
        return CopySeconds(0.0, took / rows) if one_by_one else CopySeconds(took, 0.0)
    rows = count
    if one_by_one and expected.row > 0:
        room = (CALL_SECONDS - expected.fixed) / expected.row
        rows = min(count, max(int(room), FEWEST_ROWS))
    if expected.of(rows) > 2 * CALL_SECONDS:
        return None
    took = seconds(rows)
    if rows == count or rows < 2 * FEWEST_ROWS:
        return CopySeconds(max(took - rows * expected.row, 0.0), expected.row)
    row = max(took - seconds(rows // 2), 0.0) / (rows - rows // 2)
    return CopySeconds(max(took - rows * row, 0.0), row)


def with_few_rows(instance: Instance, rows: int) -> Instance:
    """Return an instance with so many of its rows: a smaller one, or a smaller sample."""
    if instance.sampled is not None:
        return replace(instance, sampled=instance.sampled[:rows])
    return replace(instance, voxels=instance.voxels[:rows])


def wait_for(values: Tensor) -> None:
    """Wait until a GPU has done all that it was asked to."""
    if values.is_cuda:
        torch.cuda.synchronize(values.device)
