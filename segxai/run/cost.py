"""The cost of a run, estimated from one forward and one backward pass on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box
from segxai.methods.method import Context, Method, takes_rows
from segxai.methods.noise import EXPECTED_COPIES, MOST_COPIES
from segxai.methods.options import NoiseOptions
from segxai.methods.sampling_error import MORE_MAPS
from segxai.rows.batch import RowBatch
from segxai.rows.engines import EngineChoice, find_engine
from segxai.rows.window_pass import Pass, Voxels, dense_rows, forward_pass
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout
from segxai.text import duration, size
from segxai.types import Instance

DENSE = 15  # about as many rows as "lowrank" computes densely for each window


@dataclass(frozen=True)
class WindowCost:
    """The measured seconds and bytes of one window and one batch of rows, and a row's extent."""

    suited: EngineChoice
    window_seconds: float
    backward_seconds: float
    graph_bytes: int
    batch_bytes: int
    row_extent: tuple[int, ...]


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
        Size of the maps, before compression.
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
    work, backward, memory, disk = {}, 0, 0, 0
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
        disk += 8 * image.shape[1] * _box_voxels(instance, measured, layout.shape)
    rows = copies * sum(len(one.row_voxels) for one in instances) if context.aggregator else 0
    suited = measured.suited
    return Plan(suited.name, suited.batch, work, rows, backward, memory, disk, assumed)


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
        suited, window_seconds, seconds / len(chunk), graph_bytes, batch_bytes, _extent(found)
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
            assumes_copies=total.assumes_copies or one.assumes_copies,
        )
    return total


def in_words(cost: Plan) -> str:
    """Describe the cost on one line."""
    assumed = f", if {EXPECTED_COPIES} noisy copies are enough; {MOST_COPIES} at most"
    return (
        f"{cost.rows:,} rows in {cost.backward_passes:,} {cost.engine} backward passes: about "
        f"{duration(cost.seconds)}, {size(cost.memory_bytes)} of memory, at most "
        f"{size(cost.disk_bytes)} on disk{assumed if cost.assumes_copies else ''}"
    )
