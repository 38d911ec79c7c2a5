"""The record of options: everything that is asked of a run, apart from the image and the model.

The command line, `explain`, provenance, resuming and `rerun` read and write this record. Names of
its leaves are unique, so that a door may give them flat (see `Options.of`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from segxai.errors import SegxaiError, option, unknown_name
from segxai.matching import ANY, threshold_of
from segxai.methods.options import Compute, MethodOptions, Numerics, at_least
from segxai.run.controls import check_kinds

SEVERAL = ("aggregator", "score", "controls")  # options that take one name or more


@dataclass(frozen=True)
class Predicted:
    """The instances are what the model predicts."""


@dataclass(frozen=True)
class Mask:
    """The instances are the labels of an integer mask.

    Parameters
    ----------
    path : Path
        The mask, on the grid of the case's files.
    split : bool
        Whether every connected component is an instance of its own.
    """

    path: Path
    split: bool = False


@dataclass(frozen=True)
class Balls:
    """The instances are balls: centre and radius of each, in mm."""

    balls: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Result:
    """The instances are the domains of another result file, so that maps can be compared."""

    path: Path


Source = Predicted | Mask | Balls | Result


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is explained.

    Parameters
    ----------
    class_name, class_index, threshold, min_volume_mm3, connectivity
        What counts as an instance; the adapter's defaults if not given.
    match : str
        The rule by which instances are TP, FP and FN against a reference: "any" overlap, "iou:T",
        or "one-to-one"; see `segxai.matching.match`.
    instances : Predicted, Mask, Balls or Result
        Where the instances come from.
    labels : tuple of int, optional
        Which of them to explain; all if not given.
    controls : tuple of {"spheres", "matched"}
        Domains in healthy tissue that are explained, too; see `segxai.run.controls`.
    reference_label : int or "all", optional
        The label of the class in the reference, where that has several.
    tta : bool
        Whether logits are the mean over mirror images of the input.
    """

    class_name: str | None = None
    class_index: int | None = None
    threshold: float | None = None
    min_volume_mm3: float | None = None
    connectivity: int | None = None
    match: str = ANY
    instances: Source = field(default_factory=Predicted)
    labels: tuple[int, ...] | None = None
    controls: tuple[str, ...] = ()
    reference_label: int | Literal["all"] | None = None
    tta: bool = False

    def __post_init__(self) -> None:
        if self.connectivity is not None and self.connectivity not in (1, 2, 3):
            raise SegxaiError(
                f"{option('connectivity', self.connectivity)}: give 1 (faces), 2 (and edges) or 3 "
                "(and corners)"
            )
        threshold_of(self.match)
        check_kinds(self.controls)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that is asked of a run, apart from the image and the model.

    Parameters
    ----------
    target : Target
        What is explained.
    method : MethodOptions
        What is computed.
    numerics : Numerics
        How exactly.
    compute : Compute
        On what: no value depends on it, and resuming ignores it.
    crop_mm : float, optional
        Crop maps at this distance from the domain.

    Raises
    ------
    SegxaiError
        If a number makes no sense, or options exclude each other.
    """

    target: Target = field(default_factory=Target)
    method: MethodOptions = field(default_factory=MethodOptions)
    numerics: Numerics = field(default_factory=Numerics)
    compute: Compute = field(default_factory=Compute)
    crop_mm: float | None = None

    def __post_init__(self) -> None:
        if self.crop_mm is not None:
            at_least("crop_mm", self.crop_mm, 0)
        tolerance = self.numerics.row_tolerance
        if tolerance is not None and self.compute.engine != "lowrank":
            raise SegxaiError(
                f"{option('row_tolerance', f'{tolerance:g}')} belongs to "
                f"{option('engine', 'lowrank')}: give that, too"
            )

    @classmethod
    def of(cls, **leaves: Any) -> "Options":
        """Build the record from its leaves, by name; what is not given keeps its default.

        An aggregator, a score or a kind of controls may be given by its bare name.

        Raises
        ------
        SegxaiError
            If there is no such option.
        """
        given = {
            name: (value,) if name in SEVERAL and isinstance(value, str) else value
            for name, value in leaves.items()
            if value is not None
        }
        unknown = given.keys() - dict(leaves_of(cls()))
        if unknown:
            raise unknown_name("option", min(unknown), [name for name, _ in leaves_of(cls())])
        found: Options = _filled(cls(), given)
        return found


def leaves_of(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of every leaf of a record of options, its groups' included."""
    for one in fields(record):
        value = getattr(record, one.name)
        if _is_group(value):
            yield from leaves_of(value)
        else:
            yield one.name, value


def _is_group(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, Predicted | Mask | Balls | Result)


def _filled(record: Any, given: Mapping[str, Any]) -> Any:
    """Build a record of the same kind with the given leaves, its groups first."""
    values = {}
    for one in fields(record):
        value = getattr(record, one.name)
        values[one.name] = _filled(value, given) if _is_group(value) else given.get(one.name, value)
    return type(record)(**values)
