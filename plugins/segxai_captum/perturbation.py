"""Methods of perturbation: parts of the image are replaced, and the score is computed again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil, prod
from typing import Any

import torch
from captum.attr import FeatureAblation, KernelShap, Occlusion
from jaxtyping import Float
from torch import Tensor, nn

from segxai import Box, Grid, Method, PerturbedScore, SegxaiError, hookimpl
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


@dataclass(frozen=True)
class Patches:
    """The patches of an image: they start at its first voxel and lie a stride apart.

    Parameters
    ----------
    size, stride : tuple of int
        In voxels along each axis.
    shape : tuple of int
        Of the image.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, own: OcclusionOptions, grid: Grid) -> "Patches":
        """Build them from the options; a patch is at most as large as the image.

        Raises
        ------
        SegxaiError
            If they do not cover the image.
        """
        asked = in_voxels("patch", own.patch, grid.spacing)
        size = tuple(min(n, whole) for n, whole in zip(asked, grid.shape, strict=True))
        stride = size if own.stride == "patch" else in_voxels("stride", own.stride, grid.spacing)
        if any(step > n for step, n in zip(stride, size, strict=True)):
            raise SegxaiError(
                f"stride={own.stride} leaves gaps between patches of {own.patch}: give a "
                "smaller one"
            )
        return cls(size, stride, grid.shape)

    def touching(self, box: Box) -> Box:
        """Grow a box to all patches that touch it, and at least to one."""
        start, stop = [], []
        sizes = zip(box.start, box.stop, self.size, self.stride, self.shape, strict=True)
        for first, end, p, s, n in sizes:
            start.append(min(max(ceil((first - p + 1) / s), 0), (n - p) // s) * s)
            stop.append(min((end - 1) // s * s + p, n))
        return Box(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))

    def count(self, box: Box) -> int:
        """Return how many Captum lays on such a box."""
        axes = zip(box.size, self.size, self.stride, strict=True)
        return prod(1 + ceil((n - p) / s) for n, p, s in axes)


def occlusion(explained: Explained) -> Found:
    """Compute Captum's occlusion: how much the score falls when a patch is replaced.

    Only patches that touch the part that the instance depends on can change anything. A voxel in
    several patches has their mean.
    """
    own: OcclusionOptions = explained.context.own or OcclusionOptions()
    patches = Patches.of(own, explained.case.grid)
    around = patches.touching(patches.touching(explained.box))  # voxels with all of their patches
    baseline, channels = baseline_of(explained, around), explained.image.shape[1]
    together = channels if own.channels == "together" else 1
    tried = patches.count(around) * (channels // together)
    score = PerturbedScore(explained.score, explained.image)
    part = explained.box.seen_from(around)
    values = Occlusion(Counted(score, part, 1 + tried, explained.context.tick)).attribute(
        explained.on(around),
        sliding_window_shapes=(together, *patches.size),
        strides=(together, *patches.stride),
        baselines=baseline.values,
    )[0]
    return Found(values, box=around, facts=_facts(score, {**baseline.facts, "patches": tried}))


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
        random=True,
        options=KernelShapOptions,
        reference="Lundberg and Lee 2017, arXiv:1705.07874",
    ),
}


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the method of this name."""
    return METHODS[name](name=name) if name in METHODS else None
