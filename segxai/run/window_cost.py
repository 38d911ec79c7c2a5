"""The cost of one window and one batch of rows, measured on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box
from segxai.methods.method import Context
from segxai.rows.batch import RowBatch
from segxai.rows.engines import EngineChoice, find_engine
from segxai.rows.window_pass import Pass, dense_rows, forward_pass
from segxai.run.trial import wait_for
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor
from segxai.store.compression import packed_bytes
from segxai.types import Instance

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
    wait_for(found.values)
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
        wait_for(crop)
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
    return packed_bytes(values, shuffle=True) / values.size
