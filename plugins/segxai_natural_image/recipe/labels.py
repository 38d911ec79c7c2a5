"""The coins of scikit-image's photograph, drawn by a watershed on its edges."""

import numpy as np
from jaxtyping import Int, Num
from scipy import ndimage
from skimage.filters import sobel
from skimage.measure import regionprops
from skimage.morphology import opening
from skimage.segmentation import clear_border, watershed

DARK, BRIGHT = 30, 150  # grey values that are surely background, and surely a coin
SMALLEST = 300  # pixels of a coin; specks are smaller
RADIUS = 3  # pixels: bridges and hairs that are thinner go
ROWS = 4  # of coins in the photograph


def draw_coins(photograph: Num[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """One label for each coin, counted along the rows of coins from the top left; 0 elsewhere.

    Coins that touch the border are left out.
    """
    markers = np.zeros(photograph.shape, dtype=np.int32)
    markers[photograph < DARK], markers[photograph > BRIGHT] = 1, 2
    coins = ndimage.binary_fill_holes(watershed(sobel(photograph), markers) == 2)
    y, x = np.ogrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    coins = opening(clear_border(coins), y**2 + x**2 <= RADIUS**2)
    labels, _ = ndimage.label(coins)
    found = [one for one in regionprops(labels) if one.area >= SMALLEST]
    found.sort(key=lambda one: one.centroid[0])
    each = len(found) // ROWS
    rows = [found[each * row : each * (row + 1)] for row in range(ROWS)]
    ordered = [one for row in rows for one in sorted(row, key=lambda one: one.centroid[1])]
    numbered = np.zeros(photograph.shape, dtype=np.int32)
    for number, one in enumerate(ordered, start=1):
        numbered[labels == one.label] = number
    return numbered
