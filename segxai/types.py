"""Data types: Case, Instance and Attribution (frozen, numpy only), and the Progress protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike

from segxai.errors import SegxaiError, option
from segxai.geometry import Box, Grid, ball
from segxai.text import format_shape

Activation = Literal["softmax", "sigmoid"]
ENGINES = ("windowed", "dense", "lowrank")  # the ways to compute rows, see `segxai.rows.engines`
SCORES = ("logit", "margin", "probability")  # what is differentiated, see `segxai.rows.scores`
PRECISIONS = ("float32", "tf32")  # in which a network computes


@dataclass(frozen=True)
class Source:
    """A file that a case was made from: its role, its name without folders, its sha256."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class InstanceCriteria:
    """The criteria for an instance of a class.

    Parameters
    ----------
    class_index : int, optional
        Index of the class; None for objects of any class, as models find that detect instances.
    threshold : float, optional
        Voxels with a larger probability belong to the class; if None, the voxels where its logit is
        the largest (see `Segmentation.mask`).
    min_volume_mm3 : float
        Smaller components are left out.
    connectivity : int
        Number of steps along axes between neighbours: 2 means 18 neighbours in 3D.
    match : str
        The rule by which predicted instances and those of a reference are matched, see
        `segxai.matching.match`.

    Raises
    ------
    SegxaiError
        If the threshold is not in (0, 1), or the volume is negative.
    """

    class_index: int | None = 1
    threshold: float | None = 0.5
    min_volume_mm3: float = 0.0
    connectivity: int = 2
    match: str = "any"

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise SegxaiError(f"threshold {self.threshold:g} is not a probability between 0 and 1")
        if not self.min_volume_mm3 >= 0:
            raise SegxaiError(f"minimum volume {self.min_volume_mm3:g} mm3: give 0 or more")

    @property
    def logit(self) -> int:
        """The index of the class; raises SegxaiError if it may be any."""
        if self.class_index is None:
            raise SegxaiError(f"this model explains one class: name it with {option('class_name')}")
        return self.class_index


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
        What a value of 1 in `image` means; maps are in logit per this unit.
    black : tuple of float, optional
        What a voxel that is 0 in the files becomes in each channel of `image`; None if that is not
        known.
    patient, session : str
        Whose scan it is, and of which visit; "" if that is not known.
    regions : ndarray of shape (*domain), optional
        The region that a voxel lies in, 0 for none.
    region_names : mapping
        The regions' names, by number; a number without a name stands for itself.
    reference : ndarray of shape (*domain), optional
        True where an expert drew an object of the class; or labels, of which a run takes those of
        its class (see `segxai.run.reference`).
    source_grid : Grid, optional
        The grid of the user's own file, to which maps are exported; `grid` if not given.
    domains_on_source : bool
        Whether instances, probabilities and references live on the source grid, not on `grid`.
    picture : ndarray of shape (y, x, 3), optional
        The user's own picture on the source grid, for figures.
    sources : tuple of Source
        The files that the case was made from.
    notes, warnings : tuple of str
        What loading did to the files, and what looks wrong with them.
    """

    name: str
    image: Float[np.ndarray, "channel *grid"]
    channels: tuple[str, ...]
    grid: Grid
    foreground: Bool[np.ndarray, "*grid"]
    input_unit: str = "input unit"
    black: tuple[float, ...] | None = None
    reference: Bool[np.ndarray, "*domain"] | Int[np.ndarray, "*domain"] | None = None
    regions: Int[np.ndarray, "*domain"] | None = None
    region_names: Mapping[int, str] = field(default_factory=dict)
    source_grid: Grid | None = None
    domains_on_source: bool = False
    picture: UInt8[np.ndarray, "y x 3"] | None = None
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    patient: str = ""
    session: str = ""

    @classmethod
    def of_array(cls, image: Float[np.ndarray, "channel *grid"]) -> "Case":
        """Build the case of a bare array: all of it counts, and its voxels are pixels."""
        shape = image.shape[1:]
        channels = tuple(f"channel {number}" for number in range(len(image)))
        return cls("array", image, channels, Grid.unit(shape), np.ones(shape, dtype=bool))

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
        Index of the class's logit.
    outcome : str
        "TP", "FP" or "FN" against a reference; "TN" for a control in healthy tissue; "" if there
        is no reference.
    sampled : ndarray of shape (row,), optional
        Indices into `voxels` of the rows to compute, if the domain is too large to compute all.
    source : int
        Label of the instance that a control has the shape of; 0 for all others.

    Raises
    ------
    SegxaiError
        If a voxel is listed twice: it would count twice.
    """

    label: int
    voxels: Int[np.ndarray, "voxel axis"]
    class_index: int = 1
    outcome: str = ""
    sampled: Int[np.ndarray, " row"] | None = None
    source: int = 0

    def __post_init__(self) -> None:
        repeated = _repeated(self.voxels)
        if repeated is not None:
            raise SegxaiError(
                f"instance {self.label} lists the voxel {repeated} more than once: give each voxel "
                "once (numpy.unique(voxels, axis=0))"
            )

    @classmethod
    def from_mask(
        cls,
        mask: Bool[np.ndarray, "*grid"],
        *,
        label: int = 1,
        class_index: int = 1,
        outcome: str = "",
    ) -> "Instance":
        """Build the instance whose domain is where `mask` is true."""
        return cls(label, np.argwhere(mask), class_index, outcome)

    @classmethod
    def of(cls, target: "Instance | ArrayLike", shape: Sequence[int] | None = None) -> "Instance":
        """Return `target` if it is an instance, or build one of class 1 from a boolean mask.

        Parameters
        ----------
        shape : sequence of int, optional
            Shape of the grid that it must lie on.

        Raises
        ------
        ValueError
            If the mask is not boolean, or empty.
        SegxaiError
            If the mask has another shape, or a voxel of the instance lies outside of the grid.
        """
        if isinstance(target, Instance):
            if shape is not None:
                target._check_on(tuple(shape))
            return target
        mask = np.asarray(target)
        if mask.dtype != bool or not mask.any():
            raise ValueError(
                "an instance must be an Instance or a boolean mask with at least one voxel, "
                f"not {mask.dtype} with {np.count_nonzero(mask)} non-zero values"
            )
        if shape is not None and mask.shape != tuple(shape):
            raise SegxaiError(
                f"the mask has {format_shape(mask.shape)} voxels, but the model's output has "
                f"{format_shape(shape)}: give a mask on the grid of the output"
            )
        return cls.from_mask(mask)

    def _check_on(self, shape: tuple[int, ...]) -> None:
        """Check that all voxels lie on a grid of this shape."""
        axes = self.voxels.shape[1]
        if axes == len(shape) and Box.whole(shape).contains(self.voxels).all():
            return
        last = format_shape((self.voxels.max(axis=0) + 1).tolist())
        raise SegxaiError(
            f"instance {self.label} has voxels on a grid of at least {last}, but the model's "
            f"output has {format_shape(shape)}: give the voxels on the grid of the output"
        )

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
        """Build the instance whose domain is a ball: the voxels whose centres lie within a radius.

        Parameters
        ----------
        centre_mm : sequence of float, one for each axis
            Position in the grid's own space, as `grid.to_mm` gives it; it may lie between voxels.
        radius_mm : float
            0 takes the voxel at the centre, if there is one.

        Notes
        -----
        The part of the ball outside the grid is cut off. Only voxels around the ball are examined.

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
        """Return the domain as a boolean array of the given shape."""
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(self.voxels.T)] = True
        return mask

    def seen_from(self, box: Box) -> "Instance":
        """Return the same instance on the crop of the grid that a box cuts out."""
        return replace(self, voxels=box.local(self.voxels))


def _repeated(voxels: Int[np.ndarray, "voxel axis"]) -> tuple[int, ...] | None:
    """Find a voxel that is listed more than once; None if there is none."""
    if len(voxels) < 2:
        return None
    flat = Box.around(voxels).flat(voxels)
    if (np.diff(flat) > 0).all():  # in C order, as is usual
        return None
    order = np.argsort(flat, kind="stable")
    twice = np.flatnonzero(np.diff(flat[order]) == 0)
    return tuple(voxels[order[twice[0]]].tolist()) if len(twice) else None


@dataclass(frozen=True)
class Attribution:
    """The map of one instance, cropped to a box of the grid.

    Parameters
    ----------
    label : int
        Label of the instance; 0 for a class-level map.
    values : ndarray of shape (channel, *box), or (*box) for a heat map
        Signed values; a heat map has none below 0.
    offset : tuple of int
        First voxel of the box on the grid; the map is 0 outside the box.
    standard_error : ndarray like `values`, optional
        Standard error over the noisy copies.
    facts : mapping
        Numbers and words about this map: rows, windows, seconds, layer...
    unit : str
        What a value of 1 means; "score" and "input" stand for the units of the score and of the
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
        """The box of the grid that the map covers."""
        return Box(self.offset, self.values.shape[self.values.ndim - len(self.offset) :])

    def on_grid(self, shape: tuple[int, ...]) -> Shaped[np.ndarray, "*full"]:
        """Place the map on the whole grid, with 0 outside its box."""
        leading = self.values.shape[: self.values.ndim - len(self.offset)]
        full = np.zeros((*leading, *shape), dtype=self.values.dtype)
        full[self.box.index] = self.values
        return full


@runtime_checkable
class Progress(Protocol):
    """A display of how far a long job has come."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Start a job of `total` units of work, of which `done` are finished already."""
        ...

    def advance(self, amount: float) -> None:
        """Count this amount of work as done."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text to the user."""
        ...


class Quiet:
    """A progress display that shows nothing."""

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Show nothing."""

    def advance(self, amount: float) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""
