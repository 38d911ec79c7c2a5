"""The nouns: Case, Instance, Attribution, frozen and numpy only; and who watches: Progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike

from segxai.geometry import Box, Grid, ball

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Source:
    """A file that a case was made from: its role, its name without folders, its sha256."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Case:
    """One image as the network sees it, and where it came from.

    Parameters
    ----------
    name : str
        Short name for tables and file names.
    image : ndarray of shape (channel, *grid)
        The network's input: oriented, resampled and normalised.
    channels : tuple of str
        Names of the channels.
    grid : Grid
        The network's grid, on which maps live.
    foreground : ndarray of shape (*grid)
        Where the image shows the object (the brain): noise levels are measured there.
    input_unit : str
        What 1 means in `image`; maps are in logit per this unit.
    reference : ndarray of shape (*grid), optional
        Non-zero where an expert drew an object of the class.
    source_grid : Grid, optional
        The grid of the user's own file, to which maps are exported; `grid` if not given.
    domains_on_source : bool
        Whether instances, probabilities and references live on the source grid, not on `grid`.
    picture : ndarray of shape (y, x, 3), optional
        The user's own picture on the source grid, for figures.
    sources : tuple of Source
        The files.
    notes, warnings : tuple of str
        What loading did to the files, and what looks wrong with them.
    """

    name: str
    image: Float[np.ndarray, "channel *grid"]
    channels: tuple[str, ...]
    grid: Grid
    foreground: Bool[np.ndarray, "*grid"]
    input_unit: str = "input unit"
    reference: Bool[np.ndarray, "*grid"] | None = None
    source_grid: Grid | None = None
    domains_on_source: bool = False
    picture: UInt8[np.ndarray, "y x 3"] | None = None
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def domain_grid(self) -> Grid:
        """The grid of instances, probabilities and references."""
        return self.source_grid if self.domains_on_source and self.source_grid else self.grid


@dataclass(frozen=True)
class Instance:
    """One object of a class: the set of output voxels (the domain Omega) that is explained.

    Parameters
    ----------
    label : int
        Its number in the case, from 1; 0 stands for a whole class.
    voxels : ndarray of shape (voxel, axis)
        The domain, as voxel indices in C order.
    class_index : int
        Which logit.
    outcome : str
        "TP", "FP" or "FN" against a reference; "" where there is none.
    sampled : ndarray of shape (row,), optional
        Indices into `voxels` of the rows to compute, where the domain is too large for all.
    """

    label: int
    voxels: Int[np.ndarray, "voxel axis"]
    class_index: int = 1
    outcome: str = ""
    sampled: Int[np.ndarray, " row"] | None = None

    @classmethod
    def from_mask(
        cls,
        mask: Bool[np.ndarray, "*grid"],
        *,
        label: int = 1,
        class_index: int = 1,
        outcome: str = "",
    ) -> "Instance":
        """The instance whose domain is where `mask` is true."""
        return cls(label, np.argwhere(mask), class_index, outcome)

    @classmethod
    def of(cls, target: "Instance | ArrayLike") -> "Instance":
        """An instance as it is, or the one of class 1 whose domain is a boolean mask.

        Raises
        ------
        ValueError
            If the mask is not boolean, or empty.
        """
        if isinstance(target, Instance):
            return target
        mask = np.asarray(target)
        if mask.dtype != bool or not mask.any():
            raise ValueError(
                "an instance is an Instance or a boolean mask with a voxel in it, "
                f"not {mask.dtype} with {np.count_nonzero(mask)} non-zero values"
            )
        return cls.from_mask(mask)

    @classmethod
    def sphere(
        cls,
        centre_mm: Sequence[float] | Float[np.ndarray, " axis"],
        radius_mm: float,
        grid: Grid,
        *,
        label: int = 1,
        class_index: int = 1,
    ) -> "Instance":
        """The instance whose domain is a ball: voxels whose centres lie at most a radius away.

        Parameters
        ----------
        centre_mm : sequence of float, one for each axis
            Position in the grid's own space, as `grid.to_mm` gives it; need not be a voxel's.
        radius_mm : float
            0 takes the voxel at the centre, if there is one.

        Notes
        -----
        What lies outside of the grid is cut off. Looks at the voxels around the ball only.

        Raises
        ------
        SegxaiError
            If no voxel lies in the ball, or a number is not finite.
        """
        voxels = ball(np.asarray(centre_mm, dtype=float), radius_mm, grid)
        return cls(label, voxels, class_index)

    @property
    def row_voxels(self) -> Int[np.ndarray, "row axis"]:
        """The voxels whose rows are computed: the domain, or the sample of it."""
        return self.voxels if self.sampled is None else self.voxels[self.sampled]

    def mask(self, shape: tuple[int, ...]) -> Bool[np.ndarray, "*grid"]:
        """The domain as a boolean array of the given shape."""
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(self.voxels.T)] = True
        return mask

    def seen_from(self, box: Box) -> "Instance":
        """The same instance on the crop of the grid that a box cuts out."""
        return replace(self, voxels=box.local(self.voxels))


@dataclass(frozen=True)
class Attribution:
    """The map of one instance, cropped to a box of the grid.

    Parameters
    ----------
    label : int
        Of the instance; 0 for a class-level map.
    values : ndarray of shape (channel, *box), or (*box) for a heat map
        Signed; heat maps are not negative.
    offset : tuple of int
        First voxel of the box on the grid; outside of the box the map is 0.
    standard_error : ndarray like `values`, optional
        Over the noisy copies.
    facts : mapping
        Numbers and words that belong to this map: rows, windows, seconds, layer...
    unit : str
        What 1 means in `values`; "score" and "input" stand for the units of the score and of the
        network's input.
    """

    label: int
    values: Shaped[np.ndarray, "*shape"]
    offset: tuple[int, ...]
    standard_error: Float[np.ndarray, "*shape"] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "score per input"

    @property
    def box(self) -> Box:
        """Where the map lies on the grid."""
        return Box(self.offset, self.values.shape[self.values.ndim - len(self.offset) :])

    def on_grid(self, shape: tuple[int, ...]) -> Shaped[np.ndarray, "*full"]:
        """The map on the whole grid, 0 outside of its box."""
        leading = self.values.shape[: self.values.ndim - len(self.offset)]
        full = np.zeros((*leading, *shape), dtype=self.values.dtype)
        full[self.box.index] = self.values
        return full


@runtime_checkable
class Progress(Protocol):
    """Shows how far a long job has come."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """A job of `total` units of work starts, or goes on after `done` of them."""
        ...

    def advance(self, amount: float) -> None:
        """So much more of it is done."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...


class Quiet:
    """The progress that shows nothing."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Nothing."""

    def advance(self, amount: float) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
