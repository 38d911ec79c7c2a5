"""The runs of one case, opened together: the same image, one grid, one order of channels."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from segxai.compare.neighbourhood import Neighbourhood, Voxels, neighbourhood, on_map_grid
from segxai.compare.runs import ComparedRun, Key
from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.load.resampling import mismatch
from segxai.store.hdf5 import open_result
from segxai.store.maps import Maps
from segxai.store.reader import maps, provenance_of_run, run_names
from segxai.store.refusal import values_of
from segxai.store.schema import (
    attribution_of,
    domain_grid_of,
    domain_voxels_of,
    grid_of,
    group,
    provenance_of,
)
from segxai.types import Attribution

WHOLE_CLASS = 0  # the label of class-level maps
ARBITRARY = "arbitrary"  # the unit of maps whose values cannot be compared


@dataclass(frozen=True)
class Opened:
    """A result file of the case, and where its grid starts on the one that all share.

    Parameters
    ----------
    path : Path
        For messages.
    tree : DataTree
        The open result.
    number : int
        Of the place that it was found at.
    """

    path: Path
    tree: xr.DataTree
    number: int

    @cached_property
    def grid(self) -> Grid:
        """The grid of its maps."""
        return grid_of(self.tree)

    @cached_property
    def channels(self) -> list[str]:
        """The names of its channels."""
        return [str(name) for name in group(self.tree, "input")["channel"].values]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The provenance of its case."""
        return provenance_of(group(self.tree, "/"))

    @cached_property
    def sources(self) -> list[tuple[str, str]]:
        """The sha256 and name of each image file."""
        found = self.provenance.get("case", {}).get("sources", [])
        return sorted((one["sha256"], one["name"]) for one in found if one["role"] != "reference")


@dataclass(frozen=True)
class Member:
    """One run of one case, whose maps are read when they are needed, once each.

    Parameters
    ----------
    run : ComparedRun
        What it is.
    file : Opened
        Where it is.
    place, order : tuple of int
        Where its grid starts on the shared one, and the order of its channels.
    """

    run: ComparedRun
    file: Opened
    place: tuple[int, ...]
    order: tuple[int, ...]
    _near: dict[tuple[int, Key, int], Neighbourhood] = field(default_factory=dict)

    @cached_property
    def maps(self) -> Maps:
        """Its maps."""
        return maps(self.file.tree, self.run.key[1])

    @property
    def is_class_level(self) -> bool:
        """Whether its only map is that of the whole class."""
        return list(self.maps) == [WHOLE_CLASS]

    @property
    def has_channels(self) -> bool:
        """Whether its maps have channels; False if there is none yet."""
        stored = next(iter(self.maps.values()), None)
        return stored is not None and "channel" in stored["map"].dims

    @cached_property
    def unit(self) -> str:
        """What a value of 1 means; "" if it has no map yet."""
        stored = next(iter(self.maps.values()), None)
        if stored is None:
            return ""
        score = str(self.run.how.get("score", "score"))
        return str(stored["map"].attrs["units"]).replace("score", score, 1)

    @cached_property
    def domains(self) -> dict[int, Voxels]:
        """The voxels of each instance on the shared grid, by label."""
        domains, grid = domain_grid_of(self.file.tree), self.file.grid
        return {
            label: on_map_grid(domain_voxels_of(stored), domains, grid) + self.place
            for label, stored in self.maps.items()
        }

    def near(self, label: int, of: "Member", instance: int) -> Neighbourhood:
        """Read a map around an instance: its own, or for a class-level map that of another run."""
        known = (label, of.run.key, instance)
        if known not in self._near:
            domain = of.domains[instance] - self.place
            inside = domain[_on(self.file.grid, domain)]
            self._near[known] = neighbourhood(
                self._attribution(label),
                inside if len(inside) else np.clip(domain, 0, np.array(self.file.grid.shape) - 1),
                self.file.grid,
                place=self.place,
                order=self.order,
            )
        return self._near[known]

    def _attribution(self, label: int) -> Attribution:
        return self._class_map if label == WHOLE_CLASS else attribution_of(self.maps[label])

    @cached_property
    def _class_map(self) -> Attribution:
        return attribution_of(self.maps[WHOLE_CLASS])


def _on(grid: Grid, voxels: Voxels) -> np.ndarray:
    return np.asarray(((voxels >= 0) & (voxels < grid.shape)).all(axis=1))


def in_same_unit(first: Member, second: Member) -> bool:
    """Return whether the values of two runs' maps can be compared."""
    return first.unit == second.unit != ARBITRARY


@contextmanager
def opened(paths: Mapping[int, Path], names: Collection[str] = ()) -> Iterator[list[Member]]:
    """Open the results of one case, and yield their runs in the order of the places.

    Parameters
    ----------
    paths : mapping of int to Path
        The file of each place, by its number.
    names : collection of str
        The runs to take, by their names; all if empty.

    Raises
    ------
    SegxaiError
        If a file is damaged, or they explain other images, on other grids or with other channels.
    """
    with ExitStack() as stack:
        files = [
            Opened(path, stack.enter_context(open_result(path)), number)
            for number, path in paths.items()
        ]
        for file in files[1:]:
            _check_same_case(files[0], file)
        places = _places(files)
        yield [
            Member(run, file, place, _order(files[0], file))
            for file, place in zip(files, places, strict=True)
            for run in _runs(file)
            if not names or run.key[1] in names
        ]


def _runs(file: Opened) -> list[ComparedRun]:
    return [
        ComparedRun(
            (file.number, name), file.path, file.provenance, provenance_of_run(file.tree, name)
        )
        for name in run_names(file.tree)
    ]


def _check_same_case(first: Opened, other: Opened) -> None:
    if len(other.grid.shape) != len(first.grid.shape) or other.grid.place_on(first.grid) is None:
        problem = mismatch(str(first.path), first.grid, str(other.path), other.grid)
        raise SegxaiError(
            f"{problem or 'the axes differ'}: maps are compared voxel by voxel, on one grid or on "
            "crops of it"
        )
    if sorted(other.channels) != sorted(first.channels):
        raise SegxaiError(
            f"{first.path} has the channels {', '.join(first.channels)}, but {other.path} has "
            f"{', '.join(other.channels)}: maps are compared channel by channel, by name"
        )
    if not _explain_one_image(first, other):
        raise SegxaiError(
            f"{other.path} explains another image than {first.path}: {_other_file(other, first)} "
            f"instead of {_other_file(first, other)}; compare results of the same files"
        )


def _explain_one_image(first: Opened, other: Opened) -> bool:
    """Return whether two results come from files with the same content, or hold equal images."""
    digests = [[sha256 for sha256, _ in one.sources] for one in (first, other)]
    if digests[0] and digests[0] == digests[1]:
        return True
    images = [group(one.tree, "input")["image"] for one in (first, other)]
    if images[0].shape != images[1].shape:
        return False
    order = list(_order(first, other))
    return np.array_equal(values_of(images[0]), values_of(images[1])[order])


def _other_file(file: Opened, than: Opened) -> str:
    """Name the first image file that the other result does not have."""
    found = [(name, sha256) for sha256, name in file.sources if (sha256, name) not in than.sources]
    if not found:
        return "an image without a file"
    name, sha256 = min(found)
    return f"{name} (sha256 {sha256[:8]}...)"


def _order(first: Opened, other: Opened) -> tuple[int, ...]:
    return tuple(other.channels.index(name) for name in first.channels)


def _places(files: Sequence[Opened]) -> list[tuple[int, ...]]:
    """Find where each grid starts on the smallest that holds all of them."""
    starts = np.array([file.grid.place_on(files[0].grid) for file in files])
    return [tuple(start.tolist()) for start in starts - starts.min(axis=0)]
