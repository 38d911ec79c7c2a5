"""Fills: what stands in for tissue that is taken away from an image. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from segxai.errors import SegxaiError, unknown_name
from segxai.geometry import Box
from segxai.types import Case

FILLS = ("zero", "black", "dark", "healthy", "blurred")
DARK_QUANTILE = 0.02  # of the foreground
NEAR_MM = 10.0  # healthy tissue within this distance of a domain is its neighbourhood
BLUR_MM = 5.0  # standard deviation
IN_WORDS = {
    "zero": "0 of the network's input",
    "black": "what a voxel that is 0 in the files becomes",
    "dark": f"the value below which the darkest {DARK_QUANTILE:.0%} of the foreground lie",
    "healthy": f"the mean of healthy foreground within {NEAR_MM:g} mm (pixels) of the domain",
    "blurred": f"the image, blurred by a Gaussian of {BLUR_MM:g} mm (pixels)",
}

Image = Float[np.ndarray, "channel *box"]
Mask = Bool[np.ndarray, "*grid"]


def check_fills(names: Iterable[str]) -> None:
    """Raise SegxaiError if there is no such fill."""
    for name in names:
        if name not in FILLS:
            raise unknown_name("fill", name, FILLS)


def usable_fills(names: Sequence[str], case: Case) -> tuple[str, ...]:
    """Leave out black where it is the same as zero, which is common: background stays 0.

    Raises
    ------
    SegxaiError
        If black is asked for alone, and the case does not know it.
    """
    if case.black is None and tuple(names) == ("black",):
        raise SegxaiError(
            "what 0 in the files becomes is not known of this case, so that nothing can be filled "
            f"with black; known fills: {', '.join(FILLS)}"
        )
    is_zero = case.black is not None and not any(case.black)
    drop = case.black is None or (is_zero and "zero" in names)
    return tuple(name for name in names if name != "black" or not drop)


@dataclass(frozen=True)
class Filler:
    """What can stand in for the tissue of one case.

    Parameters
    ----------
    case : Case
        The image.
    healthy : ndarray of shape (*grid)
        Foreground without objects of the class.
    """

    case: Case
    healthy: Mask

    def image(self, name: str, box: Box, distance: Float[np.ndarray, "*box"]) -> Image:
        """Return an image of this fill alone, in a box.

        Parameters
        ----------
        distance : ndarray of shape (*box)
            To the domain, in mm.
        """
        if name == "blurred":
            return self._blurred[box.index]
        levels = self.levels(name, box, distance)
        shape = (len(levels), *(1,) * len(box.size))
        return np.broadcast_to(levels.reshape(shape), (len(levels), *box.size))

    def levels(
        self, name: str, box: Box, distance: Float[np.ndarray, "*box"]
    ) -> Float[np.ndarray, " channel"]:
        """Return the one value of a fill, other than blurred, in each channel."""
        image = self.case.image
        if name == "black":
            return np.array(self.case.black, dtype=np.float32)
        if name == "dark":
            inside = image[:, self.case.foreground]
            return np.asarray(np.quantile(inside, DARK_QUANTILE, axis=1), dtype=np.float32)
        if name == "healthy":
            return healthy_mean(image[box.index], self.healthy[box.index], distance)
        return np.zeros(len(image), dtype=np.float32)

    @cached_property
    def _blurred(self) -> Image:
        sigma = [BLUR_MM / step for step in self.case.grid.spacing]
        return np.stack([ndimage.gaussian_filter(one, sigma) for one in self.case.image])


def healthy_mean(
    image: Image, healthy: Mask, distance: Float[np.ndarray, "*grid"]
) -> Float[np.ndarray, " channel"]:
    """Compute the mean of each channel over healthy tissue around a domain.

    Of all healthy tissue if there is none near, and 0 if there is none at all.
    """
    near = healthy & (distance <= NEAR_MM)
    where = near if near.any() else healthy
    if not where.any():
        return np.zeros(len(image), dtype=np.float32)
    return np.asarray(image[:, where].mean(axis=1), dtype=np.float32)


def dilation_distance(domain: Mask, most: int) -> Float[np.ndarray, "*grid"]:
    """Count for each voxel the dilations by 18 neighbours that reach it, as the paper's scripts do.

    By 8 neighbours in 2D. Infinite where more than `most` are needed.
    """
    structure = ndimage.generate_binary_structure(domain.ndim, min(2, domain.ndim))
    found = np.where(domain, 0.0, np.inf)
    reached = domain
    for step in range(1, most + 1):
        grown = ndimage.binary_dilation(reached, structure)
        found[grown & ~reached] = step
        reached = grown
    return found
