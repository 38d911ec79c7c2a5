"""Plan: what a run will cost, from one forward and one backward pass measured on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.jacobian import Pass, Voxels, forward_pass
from segxai.method import Method, Settings
from segxai.segmentation import Predictor, exact_arithmetic, frozen
from segxai.types import Instance
from segxai.wording import duration, size


@dataclass(frozen=True)
class Measured:
    """One window on this machine: seconds, bytes of the graph, extent of one row."""

    forward_seconds: float
    row_seconds: float
    graph_bytes: int
    row_extent: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a run will cost.

    Parameters
    ----------
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
    if not instances:
        return Plan({}, 0, 0, 0, 0)
    measured = measure(predictor, image, instances[0])
    copies = settings.samples if method.smooths else 1
    one_by_one = settings.aggregator is not None and not settings.aggregator.linear
    work, backward, memory, disk = {}, 0, 0, 0
    for instance in instances:
        layout, box = predictor.layout.around(instance.row_voxels)
        voxels = box.local(instance.row_voxels)
        covers = sum(int(window.contains(voxels).sum()) for window in layout.windows)
        windows = len(layout.windows)
        passes = copies * (covers if one_by_one else windows)
        work[instance.label] = (
            copies * windows * measured.forward_seconds + passes * measured.row_seconds
        )
        maps = 4 * image.shape[1] * int(np.prod(layout.shape))
        memory = max(memory, (windows if one_by_one else 1) * measured.graph_bytes + 8 * maps)
        disk += 8 * image.shape[1] * _box_voxels(instance, measured, layout.shape)
        backward += passes
    rows = copies * sum(len(one.row_voxels) for one in instances) if settings.aggregator else 0
    return Plan(work, rows, backward, memory, disk)


def measure(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], instance: Instance
) -> Measured:
    """Times of one window that covers the instance; the second of two passes, so warmed up."""
    first = instance.row_voxels[:1]
    local, box = predictor.around(first)
    crop, window = image[box.index], local.layout.windows[0]
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with frozen(predictor.network), exact_arithmetic():
        forward_pass(local, crop, window)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            forward = perf_counter()
            one = forward_pass(local, crop, window)
            _wait(image)
            forward = perf_counter() - forward
        row = _row(one, box.local(first), instance.class_index)
        backward = perf_counter()
        row = _row(one, box.local(first), instance.class_index)
        _wait(image)
        backward = perf_counter() - backward
    return Measured(forward, backward, sum(sizes), _extent(row))


def _row(one: Pass, voxel: Voxels, class_index: int) -> Tensor:
    with torch.enable_grad():
        score = one.outputs(voxel)[0, class_index]
    return torch.autograd.grad(score, one.leaf, retain_graph=True)[0]


def _extent(row: Tensor) -> tuple[int, ...]:
    """Size of the box of the row's non-zero values."""
    used = row[0].abs().sum(dim=0).nonzero()
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
        f"{cost.rows:,} rows by {cost.backward_passes:,} backward passes: about "
        f"{duration(cost.seconds)}, {size(cost.memory_bytes)} of memory, at most "
        f"{size(cost.disk_bytes)} on disk"
    )
