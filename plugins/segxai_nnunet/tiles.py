"""nnU-Net's tiles: where they lie, and how their logits are blended."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from segxai import Layout, sliding_window

OVERLAP = 0.5  # of neighbouring tiles, at least
SIGMA = 1 / 8  # of a tile
PEAK = 10.0


def tiles(shape: Sequence[int], patch: Sequence[int]) -> Layout:
    """Build the layout of nnU-Net's predictor with a tile step of 0.5 and Gaussian blending.

    Tiles are spread evenly: neighbours are at most half a tile apart, and the last ends with the
    image. An image smaller than a tile is padded with 0 on both sides. A patch of two axes makes
    tiles of one slice across the first axis of the image.
    """
    size = (*(1,) * (len(shape) - len(patch)), *patch)
    weights = gaussian(patch).reshape(size)
    return sliding_window(shape, size, OVERLAP, evenly=True, importance=weights)


def gaussian(patch: Sequence[int]) -> Float[Tensor, "*window"]:
    """Compute the weights in a tile in half precision; zeros become the smallest other weight."""
    point = np.zeros(tuple(patch))
    point[tuple(size // 2 for size in patch)] = 1
    weights = ndimage.gaussian_filter(point, [size * SIGMA for size in patch], mode="constant")
    half = torch.from_numpy(weights / (weights.max() / PEAK)).half()
    half[half == 0] = half[half > 0].min()
    return half.float()
