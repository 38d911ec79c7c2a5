"""The cost of a run, estimated from one forward and one backward pass on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from segxai.methods.method import Aggregator, Context, Method, takes_rows
from segxai.methods.noise import EXPECTED_COPIES
from segxai.methods.options import Compute, MethodOptions, NoiseOptions
from segxai.methods.sampling_error import MORE_MAPS
from segxai.run.resume import SECONDS_BETWEEN
from segxai.run.trial import CopySeconds, is_foreign, timed_by_calls
from segxai.run.window_cost import WindowCost, measure
from segxai.segment.predictor import Predictor
from segxai.segment.windows import Layout
from segxai.store.size import MAP_BYTES, RUN_BYTES
from segxai.types import Instance


@dataclass(frozen=True)
class Part:
    """The part of an image that an instance needs, and the passes for one noisy copy of it.

    `box_voxels` are those of its map: of the domain widened by a row's extent, in its windows.
    """

    windows: int
    backward: int
    voxels: int
    box_voxels: int


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
        Size of a run in the result.
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
    options: MethodOptions,
    context: Context,
) -> Plan:
    """Estimate the cost of explaining these instances: count the passes, and time some of them."""
    compute = context.compute
    if not instances:
        return Plan(compute.engine, compute.batch, {}, 0, 0, 0, 0)
    coarse = [
        predictor.without_readout(one) for one in instances
    ]  # with a readout, rows belong to its cells
    network, cells = coarse[0][0], [cell for _, cell in coarse]
    one_by_one = takes_rows(context.aggregator)
    if not one_by_one:
        compute = _of_one_pass(compute, context.aggregator)
    measured = measure(network, image, cells[0], replace(context, compute=compute))
    engine, batch = measured.suited.name, measured.suited.batch
    context = replace(context, compute=replace(context.compute, engine=engine, batch=batch))
    parts = [_part(network.layout, one, measured, one_by_one) for one in cells]
    seconds = _seconds(measured, parts, predictor, image, instances, method, options, context)
    copies, assumed = copies_of(method, options.noise)
    work = {one.label: copies * took for one, took in zip(instances, seconds, strict=True)}
    channels = image.shape[1]
    held = [
        _held_bytes(one, channels * part.voxels) for one, part in zip(instances, parts, strict=True)
    ]
    graphs = (measured.graph_bytes * (part.windows if one_by_one else 1) for part in parts)
    slow = (size for size, took in zip(held, work.values(), strict=True) if took > SECONDS_BETWEEN)
    return Plan(
        engine,
        batch,
        work,
        rows=copies * sum(len(one.row_voxels) for one in cells) if context.aggregator else 0,
        backward_passes=copies * sum(part.backward for part in parts),
        memory_bytes=measured.batch_bytes + max(map(sum, zip(graphs, held, strict=True))),
        disk_bytes=_disk_bytes(measured, [channels * part.box_voxels for part in parts], copies),
        state_bytes=max(slow, default=0),
        assumes_copies=assumed,
    )


def _of_one_pass(compute: Compute, aggregator: Aggregator | None) -> Compute:
    """Return how a window's only backward pass is computed: exactly, on a box if it makes a mean.

    Methods without rows go back through all of the window.
    """
    engine = "auto" if compute.engine == "lowrank" else compute.engine
    return replace(compute, batch=1, engine="dense" if aggregator is None else engine)


def _held_bytes(instance: Instance, values: int) -> int:
    """Estimate the bytes of the maps that are held while one of so many values is computed."""
    return 4 * values * (8 + (MORE_MAPS if instance.sampled is not None else 0))


def _disk_bytes(measured: WindowCost, values: Sequence[int], copies: int) -> int:
    """Estimate the bytes of a run: its maps of so many values, perhaps with their errors."""
    arrays = 1 if copies == 1 else 2
    return RUN_BYTES + sum(MAP_BYTES + round(arrays * measured.value_bytes * n) for n in values)


def _seconds(
    measured: WindowCost,
    parts: Sequence[Part],
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instances: Sequence[Instance],
    method: Method,
    options: MethodOptions,
    context: Context,
) -> list[float]:
    """Estimate the seconds of one noisy copy of each instance.

    They are those of its passes, corrected by what a trial on the first instance took.
    """
    shared = [part.windows * measured.window_seconds for part in parts]
    backward = [part.backward * measured.backward_seconds for part in parts]
    expected = CopySeconds(shared[0] + backward[0], 0.0)
    if takes_rows(context.aggregator):
        expected = CopySeconds(shared[0], backward[0] / len(instances[0].row_voxels))
    asked = (method, options, context)
    found = timed_by_calls(predictor, image, instances[0], *asked, expected) or expected
    if is_foreign(method):
        return [found.of(len(one.row_voxels)) for one in instances]
    beside = found.fixed - expected.fixed
    slower = found.row / expected.row if expected.row else 1.0
    return [
        max(first + beside, 0.0) + slower * rest
        for first, rest in zip(shared, backward, strict=True)
    ]


def copies_of(method: Method, noise: NoiseOptions) -> tuple[int, bool]:
    """Return the number of noisy copies of each instance, and whether it is assumed."""
    if not method.smooths:
        return 1, False
    return (EXPECTED_COPIES, True) if noise.samples == "auto" else (noise.samples, False)


def _part(layout: Layout, instance: Instance, measured: WindowCost, one_by_one: bool) -> Part:
    """Find the part of a layout that an instance needs."""
    layout, box = layout.crop_to(instance.row_voxels)
    voxels, windows = box.local(instance.row_voxels), len(layout.windows)
    covers = sum(int(window.contains(voxels).sum()) for window in layout.windows)
    extent = np.ptp(instance.row_voxels, axis=0) + np.asarray(measured.row_extent)
    return Part(
        windows,
        backward=covers if one_by_one else windows,
        voxels=int(np.prod(layout.shape)),
        box_voxels=int(np.prod(np.minimum(extent, layout.shape))),
    )


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
