"""Baselines: the image without information that a method compares the image with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from segxai import Box, Case, Context, SegxaiError, resample
from segxai_captum.explained import Explained


@dataclass(frozen=True, kw_only=True)
class BaselineOptions:
    """Which image without information the image is compared with."""

    baseline: Literal["zero", "black", "healthy", "blurred"] = field(
        default="zero",
        metadata={
            "help": "zero: 0 in the network's input; black: 0 in the files; healthy: the mean of "
            "each channel over the foreground outside all instances; blurred: the image itself"
        },
    )
    blur: float = field(
        default=8.0,
        metadata={"help": "standard deviation of the blur in mm (in pixels of a picture)"},
    )

    def __post_init__(self) -> None:
        if not 0 < self.blur < float("inf"):
            raise SegxaiError(f"blur={self.blur:g}: give a length above 0, such as 8")


@dataclass(frozen=True)
class Baseline:
    """An image without information, on the box of what is explained, and what is known of it."""

    values: Float[Tensor, "1 channel *box"]
    facts: Mapping[str, Any]


def baseline_of(explained: Explained, box: Box | None = None) -> Baseline:
    """Build the baseline that the method's own options name.

    Parameters
    ----------
    box : Box, optional
        Where; on the box of what is explained if not given.

    Raises
    ------
    SegxaiError
        If black is not known, or no voxel is healthy.
    """
    own: BaselineOptions = explained.context.own or BaselineOptions()
    case, box = explained.case, box or explained.box
    image = explained.on(box)
    if own.baseline == "blurred":
        sigma = [own.blur / step for step in case.grid.spacing]
        blurred = np.stack([ndimage.gaussian_filter(one, sigma) for one in case.image])
        return Baseline(torch.from_numpy(blurred[box.index])[None].to(image), {})
    levels = {
        "zero": lambda: (0.0,) * len(case.image),
        "black": lambda: _black(case),
        "healthy": lambda: healthy_mean(case, explained.context),
    }[own.baseline]()
    column = torch.tensor(levels).to(image).reshape(1, -1, *(1,) * len(case.grid.shape))
    return Baseline(column.expand_as(image), {"baseline_values": list(levels)})


def _black(case: Case) -> tuple[float, ...]:
    if case.black is None:
        raise SegxaiError(
            "baseline=black: what 0 in the files becomes is not known for this image; take "
            "zero, healthy or blurred"
        )
    return case.black


def healthy_mean(case: Case, context: Context) -> tuple[float, ...]:
    """Compute the mean of each channel over the foreground outside all instances.

    Raises
    ------
    SegxaiError
        If there is no such voxel.
    """
    healthy = case.foreground & ~_in_instances(case, context)
    if not healthy.any():
        raise SegxaiError(
            "baseline=healthy: instances cover all of the foreground; take zero, black or blurred"
        )
    return tuple(float(channel[healthy].mean(dtype=np.float64)) for channel in case.image)


def _in_instances(case: Case, context: Context) -> Bool[np.ndarray, "*grid"]:
    """Mark the image's voxels that lie in an instance, whatever grid instances live on."""
    inside = np.zeros(case.domain_grid.shape, dtype=np.int16)
    for instance in context.instances:
        inside[tuple(instance.voxels.T)] = 1
    if case.domains_on_source:
        inside = resample(inside, case.domain_grid, case.grid, order=0)
    return inside > 0
