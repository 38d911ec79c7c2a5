"""Layouts: the windows of an image that a network sees, and how their logits are blended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from segxai.errors import SegxaiError
from segxai.geometry import Box


@dataclass(frozen=True)
class Layout:
    """The windows of a prediction, and the share of each in the blended logits.

    Parameters
    ----------
    shape : tuple of int
        Shape of the grid.
    windows : tuple of Box
        All of the same size. They extend beyond the grid where the image is padded.
    importance : Tensor of shape (*window)
        Weight of a window's logits, before the weights of all windows are scaled to sum to 1.
    total : Tensor of shape (*grid)
        Sum of the importances of all windows of the full layout.
    """

    shape: tuple[int, ...]
    windows: tuple[Box, ...]
    importance: Float[Tensor, "*window"] = field(repr=False)
    total: Float[Tensor, "*grid"] = field(repr=False)

    def share(self, window: Box) -> Float[Tensor, "*inside"]:
        """Return the window's share in the blended logits, on its voxels inside the grid."""
        inside = window.inside(self.shape)
        return self.importance[inside.seen_from(window).index] / self.total[inside.index]

    def notes(self) -> tuple[str, ...]:
        """Return notes for the user: whether the image is smaller than a window, and padded."""
        window = self.windows[0].size
        if all(n >= w for n, w in zip(self.shape, window, strict=True)):
            return ()
        image, size = (" x ".join(map(str, each)) for each in (self.shape, window))
        return (f"an image of {image} voxels is padded with 0 to the window of {size}",)

    def crop_to(self, voxels: Int[np.ndarray, "voxel axis"]) -> tuple["Layout", Box]:
        """Cut the layout down to the windows that cover any of the voxels; also return their box.

        The logits of these voxels depend on nothing else, and the shares are those of the full
        layout, so every row computed on the crop is a row of the full prediction.
        """
        covering = [window for window in self.windows if window.contains(voxels).any()]
        box = Box.spanning(window.inside(self.shape) for window in covering)
        moved = tuple(window.seen_from(box) for window in covering)
        return Layout(box.size, moved, self.importance, self.total[box.index]), box


def whole_image(shape: Sequence[int], divisor: int = 1) -> Layout:
    """Build the layout of a network that takes the whole image at once.

    The image is padded with 0 at the end of each axis to a multiple of the divisor.
    """
    window = Box.whole(divisor * ceil(n / divisor) for n in shape)
    return Layout(tuple(shape), (window,), torch.ones(window.size), torch.ones(tuple(shape)))


def sliding_window(
    shape: Sequence[int],
    window: Sequence[int],
    overlap: float = 0.25,
    *,
    evenly: bool = False,
    divisor: int | None = None,
    importance: Float[Tensor, "*window"] | None = None,
) -> Layout:
    """Build overlapping windows blended with Gaussian weights, the layout of MONAI's inferer.

    Neighbouring windows are `window * (1 - overlap)` voxels apart, the last one is moved back to
    end where the image ends, and an image smaller than a window is padded with 0 on both sides. The
    Gaussian's standard deviation is an eighth of the window.

    Parameters
    ----------
    evenly : bool
        Whether as many windows are spread evenly instead, as by nnU-Net: no two overlap by less
        than `overlap`, and the last ones not by more than the others.
    divisor : int, optional
        If given, a window that is larger than the image shrinks along that axis to the smallest
        multiple of it that holds the image.
    importance : Tensor of shape (*window), optional
        Other weights than the Gaussian.

    Raises
    ------
    SegxaiError
        If the window and the image differ in their number of axes, a size of the window is below 1,
        or `overlap` is not in [0, 1).
    """
    if len(window) != len(shape):
        raise SegxaiError(
            f"a window of {len(window)} axes {tuple(window)} does not fit an image of "
            f"{len(shape)} axes {tuple(shape)}; give one size for each axis"
        )
    if not 0 <= overlap < 1 or min(window) < 1:
        raise SegxaiError(
            f"window {tuple(window)} with overlap {overlap}: sizes must be at least 1, "
            "the overlap at least 0 and below 1"
        )
    if divisor is not None:
        pairs = zip(shape, window, strict=True)
        window = [min(w, divisor * ceil(n / divisor)) for n, w in pairs]
    starts = [_starts(n, w, overlap, evenly) for n, w in zip(shape, window, strict=True)]
    windows = tuple(Box(start, tuple(window)) for start in product(*starts))
    importance = _gaussian(window) if importance is None else importance
    return Layout(tuple(shape), windows, importance, _total_importance(shape, windows, importance))


def _starts(size: int, window: int, overlap: float, evenly: bool) -> list[int]:
    """Return the first voxel of each window along one axis."""
    room = size - window
    if room <= 0:
        return [-(-room // 2)]
    step = max(window * (1 - overlap), 1)
    if evenly:
        count = ceil(room / step) + 1
        return [round(room / (count - 1) * k) for k in range(count)]
    step = int(step)
    return [min(k * step, room) for k in range(ceil(room / step) + 1)]


def _gaussian(window: Sequence[int], sigma_scale: float = 0.125) -> Float[Tensor, "*window"]:
    """Compute the product of a Gaussian for each axis, at least a thousandth (as MONAI does)."""
    weights = torch.ones(tuple(window))
    for axis, size in enumerate(window):
        x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        profile = torch.exp(-(x**2) / (2 * (sigma_scale * size) ** 2))
        weights = weights * profile.reshape([-1 if a == axis else 1 for a in range(len(window))])
    return weights.clamp(min=max(float(weights.min()), 1e-3))


def _total_importance(
    shape: Sequence[int], windows: Sequence[Box], importance: Float[Tensor, "*window"]
) -> Float[Tensor, "*grid"]:
    total = torch.zeros(tuple(shape))
    for window in windows:
        inside = window.inside(shape)
        total[inside.index] += importance[inside.seen_from(window).index]
    return total
