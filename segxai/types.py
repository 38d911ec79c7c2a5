"""The nouns: Grid, Box, Case, Segmentation, Instance, Attribution. Frozen, numpy only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike

from segxai.errors import SegxaiError

Activation = Literal["softmax", "sigmoid"]
AXES = {1: ("x",), 2: ("y", "x"), 3: ("x", "y", "z")}
ROUNDING = 1e-6  # mm, or voxels: a point on the surface of a ball is in it


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels in space.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along each axis.
    affine : ndarray of shape (axis + 1, axis + 1)
        Maps homogeneous voxel indices to millimetres (pixels, for an image without a scale).
    """

    shape: tuple[int, ...]
    affine: Float[np.ndarray, "rank rank"]

    @classmethod
    def unit(cls, shape: tuple[int, ...]) -> "Grid":
        """The grid of a bare array: spacing 1, origin at the first voxel."""
        return cls(tuple(int(size) for size in shape), np.eye(len(shape) + 1))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[len(self.shape)]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each axis, in mm."""
        return tuple(float(step) for step in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, in mm3 (area in 2D)."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    def to_mm(self, voxels: Float[np.ndarray, "*points axis"]) -> Float[np.ndarray, "*points axis"]:
        """Voxel indices (may be fractional) as positions in mm."""
        return np.asarray(voxels) @ self.affine[:-1, :-1].T + self.affine[:-1, -1]


@dataclass(frozen=True)
class Box:
    """A block of voxels with its faces along the axes; may reach outside of the grid.

    Parameters
    ----------
    start, size : tuple of int
        First voxel (negative outside of the grid) and number of voxels along each axis.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Iterable[int]) -> "Box":
        """All of a grid of this shape."""
        size = tuple(int(n) for n in shape)
        return cls((0,) * len(size), size)

    @classmethod
    def spanning(cls, boxes: Iterable["Box"]) -> "Box":
        """The smallest box that holds all of the boxes."""
        ends = [(box.start, box.stop) for box in boxes]
        start = np.min([first for first, _ in ends], axis=0)
        stop = np.max([last for _, last in ends], axis=0)
        return cls(tuple(start.tolist()), tuple((stop - start).tolist()))

    @classmethod
    def around(cls, voxels: Int[np.ndarray, "voxel axis"]) -> "Box":
        """The smallest box that holds all of the voxels."""
        start, last = voxels.min(axis=0), voxels.max(axis=0)
        return cls(tuple(start.tolist()), tuple((last - start + 1).tolist()))

    @property
    def stop(self) -> tuple[int, ...]:
        """The first voxel behind the box, along each axis."""
        return tuple(a + n for a, n in zip(self.start, self.size, strict=True))

    @property
    def index(self) -> Any:
        """Cuts the box out of the last axes of an array; for boxes on the grid."""
        return (..., *(slice(a, b) for a, b in zip(self.start, self.stop, strict=True)))

    def inside(self, shape: Iterable[int]) -> "Box":
        """The part that lies on a grid of this shape."""
        start = tuple(max(a, 0) for a in self.start)
        stop = tuple(min(b, n) for b, n in zip(self.stop, shape, strict=True))
        return Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def seen_from(self, other: "Box") -> "Box":
        """The same block, counted from the first voxel of another box."""
        return Box(tuple(a - o for a, o in zip(self.start, other.start, strict=True)), self.size)

    def contains(self, voxels: Int[np.ndarray, "voxel axis"]) -> Bool[np.ndarray, " voxel"]:
        """Which of the voxels lie in the box."""
        local = self.local(voxels)
        return np.all((local >= 0) & (local < np.asarray(self.size)), axis=1)

    def local(self, voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, "voxel axis"]:
        """The voxels, counted from the first voxel of the box."""
        return voxels - np.asarray(self.start)

    def flat(self, voxels: Int[np.ndarray, "voxel axis"]) -> Int[np.ndarray, " voxel"]:
        """Where the voxels are in an array of the box's size, if it is flattened."""
        return np.ravel_multi_index(tuple(self.local(voxels).T), self.size)


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
class Segmentation:
    """Logits of every class on the whole grid, of shape (class, *grid), from the clean image."""

    logits: Float[np.ndarray, "class *grid"]
    classes: tuple[str, ...]
    activation: Activation = "softmax"

    def mask(self, class_index: int, threshold: float | None) -> Bool[np.ndarray, "*grid"]:
        """Where the class is predicted: above a probability, or where its logit is the largest.

        Without a threshold, logits that stand for themselves (a single one, or under a sigmoid)
        must be positive.
        """
        if threshold is not None:
            return self.probability()[class_index] > threshold
        if len(self.logits) == 1 or self.activation == "sigmoid":
            return self.logits[class_index] > 0
        return self.logits.argmax(axis=0) == class_index

    def probability(self) -> Float[np.ndarray, "class *grid"]:
        """Softmax over the classes; the sigmoid where logits stand for themselves."""
        if self.logits.shape[0] == 1 or self.activation == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-self.logits)), dtype=np.float32)
        shifted = np.exp(self.logits - self.logits.max(axis=0, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=0, keepdims=True), dtype=np.float32)


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
        centre = np.asarray(centre_mm, dtype=float)
        known = centre.shape == (len(grid.shape),) and np.isfinite([*centre, radius_mm]).all()
        if not known or radius_mm < 0:
            raise SegxaiError(
                f"a sphere at {_position(centre)} mm of radius {radius_mm:g} mm: give "
                f"{len(grid.shape)} finite coordinates for this image, and a radius of 0 or more"
            )
        voxels = _within(grid, centre, radius_mm)
        if len(voxels) == 0:
            raise SegxaiError(
                f"no voxel centre lies within {radius_mm:g} mm of {_position(centre)} mm; "
                f"{_extent_mm(grid)}"
            )
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


def _within(
    grid: Grid, centre_mm: Float[np.ndarray, " axis"], radius_mm: float
) -> Int[np.ndarray, "voxel axis"]:
    """The voxels whose centres are at most so far away, in C order."""
    to_voxels = np.linalg.inv(grid.affine[:-1, :-1])
    centre = to_voxels @ (centre_mm - grid.affine[:-1, -1])
    # How far a ball reaches along an axis of voxels is the length of that row of the inverse.
    reach = radius_mm * np.linalg.norm(to_voxels, axis=1) + ROUNDING
    first = np.maximum(np.ceil(centre - reach), 0).astype(np.int64)
    stop = np.minimum(np.floor(centre + reach) + 1, grid.shape).astype(np.int64)
    size = np.maximum(stop - first, 0)
    near = np.indices(tuple(size.tolist())).reshape(len(size), -1).T + first
    distance = np.linalg.norm(grid.to_mm(near.astype(float)) - centre_mm, axis=1)
    return near[distance <= radius_mm + ROUNDING]


def _position(point: Float[np.ndarray, "..."]) -> str:
    return f"({', '.join(f'{x:g}' for x in point.ravel())})"


def _extent_mm(grid: Grid) -> str:
    """Where a grid's voxel centres lie, for a message."""
    ends = np.indices((2,) * len(grid.shape)).reshape(len(grid.shape), -1).T
    corners = grid.to_mm(ends * (np.array(grid.shape) - 1.0))
    return f"the image reaches from {_position(corners.min(0))} to {_position(corners.max(0))} mm"


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
