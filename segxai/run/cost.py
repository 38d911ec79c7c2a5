"""The cost of a run, estimated from one forward and one backward pass on this machine."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.errors import option, silenced
from segxai.geometry import Box
from segxai.methods.method import Context, Method, takes_rows
from segxai.methods.noise import EXPECTED_COPIES
from segxai.methods.options import MOST_COPIES, MethodOptions, NoiseOptions
from segxai.methods.sampling_error import MORE_MAPS
from segxai.rows.batch import RowBatch
from segxai.rows.engines import EngineChoice, find_engine
from segxai.rows.window_pass import Pass, Voxels, dense_rows, forward_pass
from segxai.run.resume import SECONDS_BETWEEN
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout
from segxai.store.size import MAP_BYTES, compressed_bytes
from segxai.text import duration, size
from segxai.types import Instance

LONG_SECONDS, SHORT_SECONDS = 3600.0, 1800.0  # a run of the one is told how to become the other
ROWS_OF_A_CALL = 4
SECONDS_OF_A_CALL = 5.0  # after which a call is stopped, once it says how much it has done
DENSE = 15  # about as many rows as "lowrank" computes densely for each window


@dataclass(frozen=True)
class WindowCost:
    """The measured seconds and bytes of one window and one batch of rows, and a row's extent.

    `value_bytes` are those of one value of a map in a result, compressed.
    """

    suited: EngineChoice
    window_seconds: float
    backward_seconds: float
    graph_bytes: int
    batch_bytes: int
    row_extent: tuple[int, ...]
    value_bytes: float


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Parameters
    ----------
    engine, batch
        How rows are computed, and how many at once.
    work : dict
        Seconds for each instance, by label.
    rows : int
        Rows of the Jacobian, over all instances and noisy copies.
    backward_passes : int
        A row takes one for each window that covers its voxel; a mean of rows takes one per window.
    memory_bytes : int
        Memory for the largest instance, beyond the image and the network.
    disk_bytes : int
        Size of the maps in the result.
    state_bytes : int
        Size at most of what is kept of an instance in work, in a file beside the result; 0 if none
        takes long enough.
    assumes_copies : bool
        Whether the number of noisy copies is not known yet, so that EXPECTED_COPIES is assumed.
    """

    engine: str
    batch: int | None
    work: dict[int, float]
    rows: int
    backward_passes: int
    memory_bytes: int
    disk_bytes: int
    state_bytes: int = 0
    assumes_copies: bool = False

    @property
    def seconds(self) -> float:
        """Seconds for all instances together."""
        return sum(self.work.values())


def plan(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instances: Sequence[Instance],
    method: Method,
    noise: NoiseOptions,
    context: Context,
) -> Plan:
    """Estimate the cost of explaining these instances: count the passes, then time one window."""
    compute = context.compute
    if not instances:
        return Plan(compute.engine, compute.batch, {}, 0, 0, 0, 0)
    coarse = [
        predictor.without_readout(one) for one in instances
    ]  # with a readout, rows belong to its cells
    predictor, instances = coarse[0][0], [instance for _, instance in coarse]
    one_by_one = takes_rows(context.aggregator)
    if not one_by_one:
        compute = replace(compute, engine="dense")  # one backward pass per window: nothing to crop
    measured = measure(predictor, image, instances[0], replace(context, compute=compute))
    copies, assumed = _copies(method, noise)
    work, backward, memory, disk, state = {}, 0, 0, 0, 0
    errors = 1 if copies == 1 else 2  # a map, and its standard error
    for instance in instances:
        layout, box = predictor.layout.crop_to(instance.row_voxels)
        windows, passes = _passes(layout, box.local(instance.row_voxels), one_by_one)
        shared = windows * measured.window_seconds
        work[instance.label] = copies * (shared + passes * measured.backward_seconds)
        backward += copies * passes
        maps = 4 * image.shape[1] * int(np.prod(layout.shape))
        graphs = measured.graph_bytes * (windows if one_by_one else 1)
        held = 8 + (MORE_MAPS if instance.sampled is not None else 0)
        memory = max(memory, graphs + measured.batch_bytes + held * maps)
        if work[instance.label] > SECONDS_BETWEEN:
            state = max(state, held * maps)
        values = image.shape[1] * _box_voxels(instance, measured, layout.shape)
        disk += MAP_BYTES + round(errors * values * measured.value_bytes)
    rows = copies * sum(len(one.row_voxels) for one in instances) if context.aggregator else 0
    suited = measured.suited
    return Plan(suited.name, suited.batch, work, rows, backward, memory, disk, state, assumed)


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
        if self.done > 0 and perf_counter() - self.started > SECONDS_OF_A_CALL:
            raise _EnoughError


def timed_by_a_call(
    cost: Plan,
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instances: Sequence[Instance],
    method: Method,
    options: MethodOptions,
    context: Context,
) -> Plan:
    """Replace the seconds of a plan by those of a call of the method itself.

    The call explains the first instance from one noisy copy and, where rows are computed one by
    one, from few of its rows. It is stopped after some seconds if it has reported work by then.
    """
    first, rows = instances[0], None
    if takes_rows(context.aggregator):
        rows = min(len(first.row_voxels), ROWS_OF_A_CALL)
        first = replace(first, voxels=first.row_voxels[:rows], sampled=None)
    call = _Call(perf_counter())
    compute = replace(context.compute, engine=cost.engine, batch=cost.batch)
    context = replace(context, compute=compute, tick=call.tick)
    once = replace(options, noise=replace(options.noise, samples=1, tolerance=None))
    with silenced(), suppress(_EnoughError):
        method.attribute(predictor, image, first, once, context)
        call.done = 1.0
    _wait(image)
    seconds = _copies(method, options.noise)[0] * (perf_counter() - call.started) / call.done
    shares = {one.label: len(one.row_voxels) / rows if rows else 1.0 for one in instances}
    return replace(cost, work={label: share * seconds for label, share in shares.items()})


def quicker(
    cost: Plan,
    instances: Sequence[Instance],
    method: Method,
    noise: NoiseOptions,
    context: Context,
) -> str:
    """Describe what would make a run of hours one of minutes; "" if it takes less than an hour."""
    if cost.seconds < LONG_SECONDS:
        return ""
    ways = []
    if takes_rows(context.aggregator):
        ways += _with_fewer_rows(cost, instances)
        ways.append(f"{option('aggregator', 'mean')} (one backward pass for many rows)")
    copies, _ = _copies(method, noise)
    if copies > 1:
        fewer = max(int(copies * SHORT_SECONDS / cost.seconds), 1)
        ways.append(f"{option('samples', fewer)} (about {duration(cost.seconds * fewer / copies)})")
    ways.append(f"fewer instances ({option('labels')})")
    return f"this takes about {duration(cost.seconds)}; quicker: {', or '.join(ways)}"


def _with_fewer_rows(cost: Plan, instances: Sequence[Instance]) -> list[str]:
    for rows in (500, 100, 30):
        seconds = sum(
            cost.work[one.label] * min(rows / len(one.row_voxels), 1) for one in instances
        )
        if seconds <= SHORT_SECONDS:
            return [f"{option('rows', rows)} (about {duration(seconds)})"]
    return []


def _copies(method: Method, noise: NoiseOptions) -> tuple[int, bool]:
    """Return the number of noisy copies of each instance, and whether it is assumed."""
    if not method.smooths:
        return 1, False
    return (EXPECTED_COPIES, True) if noise.samples == "auto" else (noise.samples, False)


def _passes(layout: Layout, voxels: Voxels, one_by_one: bool) -> tuple[int, int]:
    """Count the forward and backward passes for one noisy copy of an instance."""
    windows = len(layout.windows)
    covers = sum(int(window.contains(voxels).sum()) for window in layout.windows)
    return windows, covers if one_by_one else windows


def measure(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    context: Context,
) -> WindowCost:
    """Measure one window and one batch of an instance's rows, each after a warm-up."""
    compute = context.compute
    local, box = predictor.crop_to(instance.row_voxels[:1])
    crop, window = image[box.index], local.layout.windows[0]
    voxels = box.local(instance.row_voxels)
    voxels = voxels[window.contains(voxels)]
    with frozen(predictor.network), exact_arithmetic(tf32=context.numerics.precision == "tf32"):
        suited = find_engine(local, crop, voxels[:1], engine=compute.engine, batch=compute.batch)
        forward_pass(local, crop, window)
        one, window_seconds, graph_bytes = _timed_forward(local, crop, window)
        weights = torch.zeros(len(voxels), one.logits.shape[1])
        weights[:, instance.class_index] = 1
        rows = suited.make(context.numerics.row_tolerance).rows_of(one, voxels, weights)
        chunk = np.arange(min(len(voxels), suited.batch))
        seconds, found = _timed(lambda: rows(chunk))
        if suited.name == "lowrank":
            window_seconds += DENSE * _timed(lambda: dense_rows(one, voxels[:1], weights[:1]))[0]
    # The widest layer of a batch holds several times what arrives at the image.
    batch_bytes = 8 * found.values.nbytes
    return WindowCost(
        suited,
        window_seconds,
        seconds / len(chunk),
        graph_bytes,
        batch_bytes,
        _extent(found),
        _value_bytes(found),
    )


def _timed(compute: Callable[[], RowBatch]) -> tuple[float, RowBatch]:
    """Time a batch of rows after a warm-up; return the seconds and the rows."""
    compute()
    started = perf_counter()
    found = compute()
    _wait(found.values)
    return perf_counter() - started, found


def _timed_forward(
    predictor: Predictor, crop: Float[Tensor, "1 channel *crop"], window: Box
) -> tuple[Pass, float, int]:
    """Time a forward pass; return it, its seconds, and the bytes that its graph keeps."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        started = perf_counter()
        one = forward_pass(predictor, crop, window)
        _wait(crop)
    return one, perf_counter() - started, sum(sizes)


def _extent(found: RowBatch) -> tuple[int, ...]:
    """Measure the box of one row's non-zero values."""
    used = found.values[0].abs().sum(dim=0).nonzero()
    if not len(used):
        return (1,) * used.shape[1]
    return tuple(int(n) for n in used.amax(dim=0) - used.amin(dim=0) + 1)


def _value_bytes(found: RowBatch) -> float:
    """Measure how many bytes a value of a map takes, on the mean of some rows in their box."""
    mean = found.values.mean(dim=0)
    used = mean.abs().sum(dim=0).nonzero()
    if not len(used):
        return 0.0
    first, last = used.amin(dim=0).tolist(), used.amax(dim=0).tolist()
    box = tuple(slice(start, stop + 1) for start, stop in zip(first, last, strict=True))
    values = mean[(slice(None), *box)].float().cpu().numpy()
    return compressed_bytes(values) / values.size


def _box_voxels(instance: Instance, measured: WindowCost, shape: tuple[int, ...]) -> int:
    """Count the voxels of the map's box: the domain widened by a row's extent, in its windows."""
    extent = np.ptp(instance.row_voxels, axis=0) + np.asarray(measured.row_extent)
    return int(np.prod(np.minimum(extent, shape)))


def _wait(values: Tensor) -> None:
    if values.is_cuda:
        torch.cuda.synchronize(values.device)


def together(costs: Sequence[Plan]) -> Plan:
    """Add up the costs of several runs on the same instances."""
    first, *others = costs
    total = first
    for one in others:
        total = replace(
            total,
            engine=" and ".join(sorted({*total.engine.split(" and "), one.engine})),
            work={label: seconds + one.work[label] for label, seconds in total.work.items()},
            rows=total.rows + one.rows,
            backward_passes=total.backward_passes + one.backward_passes,
            memory_bytes=max(total.memory_bytes, one.memory_bytes),
            disk_bytes=total.disk_bytes + one.disk_bytes,
            state_bytes=max(total.state_bytes, one.state_bytes),
            assumes_copies=total.assumes_copies or one.assumes_copies,
        )
    return total


def in_words(cost: Plan) -> str:
    """Describe the cost on one line; passes are counted where they are those of rows."""
    passes = f"{cost.rows:,} rows in {cost.backward_passes:,} {cost.engine} backward passes: "
    assumed = f", if {EXPECTED_COPIES} noisy copies are enough; {MOST_COPIES} at most"
    state = f" and up to {size(cost.state_bytes)} for an instance in work"
    return (
        f"{passes if cost.rows else ''}about {duration(cost.seconds)}, "
        f"{size(cost.memory_bytes)} of memory, {size(cost.disk_bytes)} on disk (twice that while "
        f"it is written{state if cost.state_bytes else ''}){assumed if cost.assumes_copies else ''}"
    )
