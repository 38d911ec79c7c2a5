"""Regions: the pieces of an image that methods replace as a whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from skimage.segmentation import slic
from torch import Tensor

from segxai import SegxaiError, load_mask, resample
from segxai_captum.baselines import BaselineOptions
from segxai_captum.explained import Explained

Channels = Literal["apart", "together"]
CHANNELS_HELP = "apart: a channel at a time; together: all, which then share one value"


@dataclass(frozen=True, kw_only=True)
class RegionOptions(BaselineOptions):
    """Which regions the image is cut into."""

    regions: Path | None = field(
        default=None,
        metadata={"help": "a label map on the grid of the files; none: supervoxels by SLIC"},
    )
    segments: int = field(
        default=64,
        metadata={"help": "about how many supervoxels, in the part that the instance depends on"},
    )
    compactness: float = field(
        default=0.3, metadata={"help": "of supervoxels: larger values make them more cubic"}
    )
    channels: Channels = field(default="apart", metadata={"help": CHANNELS_HELP})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segments < 2:
            raise SegxaiError(f"segments={self.segments}: give 2 or more")
        if not 0 < self.compactness < float("inf"):
            raise SegxaiError(f"compactness={self.compactness:g}: give a number above 0")


def regions_of(explained: Explained) -> Int[Tensor, "1 channel *box"]:
    """Find the regions of the part of the image that the instance depends on, numbered from 0.

    A region outside that part cannot change the score. With channels apart, a region is another
    one in each channel.

    Raises
    ------
    SegxaiError
        If there is only one region, or the label map does not fit the image.
    """
    own: RegionOptions = explained.context.own or RegionOptions()
    case, image = explained.case, explained.image
    if own.regions is None:
        found = slic(
            image[0].cpu().double().numpy(),
            n_segments=own.segments,
            compactness=own.compactness,
            spacing=case.grid.spacing,
            channel_axis=0,
        )
    else:
        found = load_mask(own.regions, case)
        if case.domains_on_source:
            found = resample(found, case.domain_grid, case.grid, order=0)
        found = found[explained.box.index]
    _, numbers = np.unique(found, return_inverse=True)
    labels = torch.from_numpy(numbers.reshape(found.shape))
    count, channels = int(labels.max()) + 1, image.shape[1]
    if count < 2:
        raise SegxaiError(
            "the image is a single region where the instance depends on it: give more "
            "segments=..., a smaller compactness=..., or regions=... with several labels there"
        )
    first = torch.arange(channels) * (count if own.channels == "apart" else 0)
    numbered = labels[None, None] + first.reshape(1, -1, *(1,) * labels.ndim)
    return numbered.to(image.device)
