"""Methods of perturbation: parts of the image are replaced, and the score is computed again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

import torch
from captum.attr import FeatureAblation, KernelShap, Occlusion
from jaxtyping import Float
from torch import Tensor, nn

from segxai import Box, Method, PerturbedScore, SegxaiError, hookimpl
from segxai_captum.baselines import BaselineOptions, baseline_of
from segxai_captum.explained import Explained, Found, explaining
from segxai_captum.lengths import check_lengths, in_voxels
from segxai_captum.regions import CHANNELS_HELP, Channels, RegionOptions, regions_of


@dataclass(frozen=True, kw_only=True)
class OcclusionOptions(BaselineOptions):
    """Which patches are replaced."""

    patch: str = field(
        default="8", metadata={"help": "size in voxels or mm: 8, 12mm, or 8,8,4 along each axis"}
    )
    stride: str = field(
        default="patch",
        metadata={"help": "between patches, likewise; patch: as large as one"},
    )
    channels: Channels = field(default="apart", metadata={"help": CHANNELS_HELP})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths("patch", self.patch)
        if self.stride != "patch":
            check_lengths("stride", self.stride)


@dataclass(frozen=True, kw_only=True)
class KernelShapOptions(RegionOptions):
    """Which regions share the score, and how many of their coalitions are tried."""

    coalitions: int = field(
        default=512, metadata={"help": "sets of regions that are kept while others are replaced"}
    )


class Counted(nn.Module):
    """A score that reports each of its calls, for images that may reach beyond what it depends on.

    Parameters
    ----------
    score : PerturbedScore
        Of a part of the images.
    part : Box
        That part, seen from the images.
    calls : int
        How many are expected.
    tick : callable
        Called with the share of one.
    """

    def __init__(
        self, score: PerturbedScore, part: Box, calls: int, tick: Callable[[float], None]
    ) -> None:
        super().__init__()
        self.score, self.part = score, part
        self.calls, self.tick = calls, tick

    def forward(self, images: Float[Tensor, "batch channel *around"]) -> Float[Tensor, " batch"]:
        """Compute the score of each image."""
        found: Tensor = self.score(images[self.part.index])
        self.tick(1 / self.calls)
        return found


def _facts(score: PerturbedScore, more: dict[str, Any]) -> dict[str, Any]:
    return {**more, "mean_score": float(score.clean), "windows_run": score.windows_run}


def occlusion(explained: Explained) -> Found:
    """Compute Captum's occlusion: how much the score falls when a patch is replaced.

    Patches start at the image's first voxel and lie a stride apart. Only those that touch the part
    that the instance depends on can change anything. A voxel in several patches has their mean.
    """
    own: OcclusionOptions = explained.context.own or OcclusionOptions()
    grid, box = explained.case.grid, explained.box
    patch = in_voxels("patch", own.patch, grid.spacing)
    patch = tuple(min(n, size) for n, size in zip(patch, grid.shape, strict=True))
    stride = patch if own.stride == "patch" else in_voxels("stride", own.stride, grid.spacing)
    if any(step > n for step, n in zip(stride, patch, strict=True)):
        raise SegxaiError(
            f"stride={own.stride} leaves gaps between patches of {own.patch}: give a smaller one"
        )
    trying = aligned(box, patch, stride, grid.shape)
    around = aligned(trying, patch, stride, grid.shape)  # a voxel has the mean of its patches
    baseline = baseline_of(explained, around)
    score = PerturbedScore(explained.score, explained.image)
    channels = explained.image.shape[1]
    together = channels if own.channels == "together" else 1
    steps = [1 + ceil((n - p) / s) for n, p, s in zip(around.size, patch, stride, strict=True)]
    calls = 1 + torch.Size(steps).numel() * (channels // together)
    counted = Counted(score, box.seen_from(around), calls, explained.context.tick)
    values = Occlusion(counted).attribute(
        explained.on(around),
        sliding_window_shapes=(together, *patch),
        strides=(together, *stride),
        baselines=baseline.values,
    )[0]
    facts = _facts(score, {**baseline.facts, "patches": calls - 1})
    return Found(values, box=around, facts=facts)


def aligned(
    box: Box, patch: tuple[int, ...], stride: tuple[int, ...], shape: tuple[int, ...]
) -> Box:
    """Grow a box to all of the patches of a grid that touch it."""
    start, stop = [], []
    for first, end, p, s, n in zip(box.start, box.stop, patch, stride, shape, strict=True):
        start.append(max(ceil((first - p + 1) / s), 0) * s)
        stop.append(min((end - 1) // s * s + p, n))
    return Box(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))


def feature_ablation(explained: Explained) -> Found:
    """Compute Captum's feature ablation: how much the score falls when a region is replaced."""
    regions, baseline = regions_of(explained), baseline_of(explained)
    count = int(regions.max()) + 1
    score = PerturbedScore(explained.score, explained.image)
    counted = Counted(score, Box.whole(explained.box.size), 1 + count, explained.context.tick)
    values = FeatureAblation(counted).attribute(
        explained.image, baselines=baseline.values, feature_mask=regions
    )[0]
    return Found(values, facts=_facts(score, {**baseline.facts, "regions": count}))


def kernel_shap(explained: Explained) -> Found:
    """Compute Captum's KernelSHAP: Shapley values of regions, estimated by regression.

    Raises
    ------
    SegxaiError
        If there are too few coalitions to determine the values.
    """
    own: KernelShapOptions = explained.context.own or KernelShapOptions()
    regions, baseline = regions_of(explained), baseline_of(explained)
    count = int(regions.max()) + 1
    if own.coalitions < count + 2:
        raise SegxaiError(
            f"coalitions={own.coalitions} do not determine the Shapley values of {count} regions "
            f"(each in each channel, unless channels=together): give {count + 2} or more, better "
            f"{4 * count}, or fewer segments=..."
        )
    score = PerturbedScore(explained.score, explained.image)
    counted = Counted(score, Box.whole(explained.box.size), own.coalitions, explained.context.tick)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(explained.options.seed)
        values = KernelShap(counted).attribute(
            explained.image,
            baselines=baseline.values,
            feature_mask=regions,
            n_samples=own.coalitions,
        )[0]
    return Found(values, facts=_facts(score, {**baseline.facts, "regions": count}))


IN_PLACE = "replacing it by the baseline lowers the score"
METHODS = {
    "occlusion": partial(
        explaining,
        occlusion,
        unit="score",
        sign=IN_PLACE,
        summary="how much the mean score falls when a patch is replaced by the baseline",
        options=OcclusionOptions,
        reference="Zeiler and Fergus 2014, arXiv:1311.2901",
    ),
    "feature_ablation": partial(
        explaining,
        feature_ablation,
        unit="score",
        sign=IN_PLACE,
        summary="how much the mean score falls when a supervoxel is replaced by the baseline",
        options=RegionOptions,
        reference="Captum, captum.attr.FeatureAblation",
    ),
    "kernel_shap": partial(
        explaining,
        kernel_shap,
        unit="score",
        sign="it raises the score on average over all sets of other regions",
        summary="Shapley values of supervoxels: they sum to the rise of the mean score",
        options=KernelShapOptions,
        reference="Lundberg and Lee 2017, arXiv:1705.07874",
    ),
}


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the method of this name."""
    return METHODS[name](name=name) if name in METHODS else None
