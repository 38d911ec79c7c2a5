"""Plan: what a run will cost, from one forward and one backward pass measured on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.jacobian import ENGINES, Pass, Voxels, find_engine, forward_pass
from segxai.method import Method, Settings
from segxai.protocols import RowBatch
from segxai.segmentation import Layout, Predictor, exact_arithmetic, frozen
from segxai.types import Box, Instance
from segxai.wording import duration, size


@dataclass(frozen=True)
class Measured:
    """One window on this machine: seconds and bytes of its graph and of a batch; a row's size."""

    engine: str
    forward_seconds: float
    backward_seconds: float
    graph_bytes: int
    batch_bytes: int
    row_extent: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a run will cost.

    Parameters
    ----------
    engine : str
        How rows are computed.
    work : dict
        Seconds for each instance, by label.
    rows : int
        Rows of the Jacobian, over all instances and noisy copies.
    backward_passes : int
        A row takes one for each window that covers its voxel; a mean of rows one a window.
    memory_bytes : int
        Of the largest instance, beyond the image and the network.
    disk_bytes : int
        Of the maps, before compression.
    """

    engine: str
    work: dict[int, float]
    rows: int
    backward_passes: int
    memory_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Of all instances."""
        return sum(self.work.values())


def plan(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instances: Sequence[Instance],
    method: Method,
    settings: Settings,
) -> Plan:
    """The cost of explaining these instances: counted, then timed on one window."""
    engine = settings.engine
    if not instances:
        return Plan(engine, {}, 0, 0, 0, 0)
    one_by_one = settings.aggregator is not None and not settings.aggregator.linear
    if not one_by_one:
        engine = "dense"  # one backward pass a window: there is nothing to crop
    measured = measure(predictor, image, instances[0], replace(settings, engine=engine))
    copies = settings.samples if method.smooths else 1
    work, backward, memory, disk = {}, 0, 0, 0
    for instance in instances:
        layout, box = predictor.layout.around(instance.row_voxels)
        windows, passes = _passes(layout, box.local(instance.row_voxels), one_by_one)
        forward = windows * measured.forward_seconds
        work[instance.label] = copies * (forward + passes * measured.backward_seconds)
        backward += copies * passes
        maps = 4 * image.shape[1] * int(np.prod(layout.shape))
        graphs = measured.graph_bytes * (windows if one_by_one else 1)
        memory = max(memory, graphs + measured.batch_bytes + 8 * maps)
        disk += 8 * image.shape[1] * _box_voxels(instance, measured, layout.shape)
    rows = copies * sum(len(one.row_voxels) for one in instances) if settings.aggregator else 0
    return Plan(measured.engine, work, rows, backward, memory, disk)


def _passes(layout: Layout, voxels: Voxels, one_by_one: bool) -> tuple[int, int]:
    """Forward and backward passes for one noisy copy of an instance."""
    windows = len(layout.windows)
    covers = sum(int(window.contains(voxels).sum()) for window in layout.windows)
    return windows, covers if one_by_one else windows


def measure(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    settings: Settings,
) -> Measured:
    """One window and one batch of an instance's rows, each the second time, so warmed up."""
    local, box = predictor.around(instance.row_voxels[:1])
    crop, window = image[box.index], local.layout.windows[0]
    voxels = box.local(instance.row_voxels)
    voxels = voxels[window.contains(voxels)]
    with frozen(predictor.network), exact_arithmetic():
        engine = settings.engine
        if engine == "auto":
            engine = find_engine(local, crop, voxels[:1])
        forward_pass(local, crop, window)
        one, forward, graph_bytes = _timed_forward(local, crop, window)
        chunk = voxels[: settings.batch if engine == "windowed" else 1]
        weights = torch.zeros(len(chunk), one.logits.shape[1])
        weights[:, instance.class_index] = 1
        ENGINES[engine](one, chunk, weights)
        started = perf_counter()
        found = ENGINES[engine](one, chunk, weights)
        _wait(image)
        seconds = (perf_counter() - started) / len(chunk)
    # The widest layer of a batch holds several times what arrives at the image.
    return Measured(engine, forward, seconds, graph_bytes, 8 * found.values.nbytes, _extent(found))


def _timed_forward(
    predictor: Predictor, crop: Float[Tensor, "1 channel *crop"], window: Box
) -> tuple[Pass, float, int]:
    """A forward pass, its seconds, and the bytes that its graph keeps."""
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
    """Size of the box of one row's non-zero values."""
    used = found.values[0].abs().sum(dim=0).nonzero()
    if not len(used):
        return (1,) * used.shape[1]
    return tuple(int(n) for n in used.amax(dim=0) - used.amin(dim=0) + 1)


def _box_voxels(instance: Instance, measured: Measured, shape: tuple[int, ...]) -> int:
    """Voxels of the map's box: the domain's extent widened by a row's, within its windows."""
    extent = np.ptp(instance.row_voxels, axis=0) + np.asarray(measured.row_extent)
    return int(np.prod(np.minimum(extent, shape)))


def _wait(image: Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)


def in_words(cost: Plan) -> str:
    """One line for a person."""
    return (
        f"{cost.rows:,} rows by {cost.backward_passes:,} {cost.engine} backward passes: about "
        f"{duration(cost.seconds)}, {size(cost.memory_bytes)} of memory, at most "
        f"{size(cost.disk_bytes)} on disk"
    )
