"""Settings of synthetic lesions. No torch."""

from dataclasses import dataclass
from pathlib import Path

from segxai.errors import SegxaiError
from segxai.experiments.fills import check_fills


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Settings of the experiment.

    Parameters
    ----------
    fills : tuple of str
        What the background outside of the head is filled with.
    where : Path, optional
        A mask of the tissue that lesions are moved to, on the grid of the case's files; by default
        healthy tissue as bright as the surroundings of the lesions (see `typical_tissue`).
    places : int
        How often each arm, and each size, is repeated.
    contrasts : tuple of float
        Doses, as multiples of the moved lesion's own contrast.
    sizes : tuple of float
        Volumes of made-up lesions in mm3 (areas in pixels).
    label : int, optional
        The lesion that is moved; by default the surest of the larger half.
    seed : int
        Of the places.
    """

    fills: tuple[str, ...] = ("zero", "black", "dark")
    where: Path | None = None
    places: int = 10
    contrasts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    sizes: tuple[float, ...] = ()
    label: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fills(self.fills)
        if "blurred" in self.fills:
            raise SegxaiError("the background outside of a head is empty: blurred fills nothing")
        if self.places < 1:
            raise SegxaiError(f"{self.places} places: give 1 or more")
        if any(one <= 0 for one in self.sizes):
            raise SegxaiError(f"sizes {self.sizes}: give volumes above 0")
        if len(self.contrasts) < 2 or sorted(self.contrasts) != list(self.contrasts):
            raise SegxaiError(f"contrasts {self.contrasts}: give two or more, in increasing order")
