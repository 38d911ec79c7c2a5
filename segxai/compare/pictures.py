"""Pictures of a comparison: the matrix, the same instance under every run, and signs that hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segxai.compare.comparison import Compared, Comparison
from segxai.compare.matrix import draw_matrix
from segxai.compare.members import Member, in_same_unit
from segxai.compare.neighbourhood import Neighbourhood, intersection
from segxai.compare.pairs import neighbours, shared_instances
from segxai.compare.signs import held_signs
from segxai.geometry import Box
from segxai.load.resampling import resample
from segxai.report.export import ENDINGS, export_map
from segxai.report.figures import draw_instance
from segxai.report.output_files import ExportFolder, make_folder
from segxai.report.pictures import Canvas, canvas_of
from segxai.report.sheet import save_figure
from segxai.report.strips import Seen, draw_strip
from segxai.text import file_name
from segxai.types import Attribution

Shared = list[tuple[Member, int]]  # an instance: its label in each run that has it


def save_matrix(comparison: Comparison, compared: Compared, place: ExportFolder) -> Path:
    """Draw the matrix of a comparison into its folder."""
    title = f"How alike the maps of {len(compared.runs)} runs are"
    with place.writing("matrix.png") as draft:
        save_figure(draw_matrix(comparison.summary, title), draft)
    return place.folder / "matrix.png"


def save_instances(compared: Compared, place: ExportFolder, count: int) -> Iterator[Path]:
    """Draw the largest instances of every case under all runs, and export the signs that hold.

    Parameters
    ----------
    place : ExportFolder
        Gets `strip-LABEL.png`, and a folder `signs` with `signs-LABEL-CHANNEL.nii.gz` (or .tif) for
        every instance that all runs with channels share, and `signs-LABEL.png` for those that are
        drawn; with several cases, the case's name comes first.
    count : int
        How many instances of a case to draw.
    """
    signs = replace(place, folder=place.folder / "signs")
    for case in compared.files:
        with compared.case(case) as (members, _):
            prefix = f"{case}-" if len(compared.files) > 1 else ""
            shared = [one for one in shared_instances(members) if len(one) > 1]
            if not shared or len(members[0].file.grid.shape) not in ENDINGS:
                continue
            scene = _Scene.of(shared[0][0][0], members, compared)
            for number, instance in enumerate(sorted(shared, key=_size, reverse=True)):
                label, is_drawn = instance[0][1], number < count
                if is_drawn:
                    yield _strip(scene, instance, place, file_name(f"{prefix}strip-{label}.png"))
                stem = f"{prefix}signs-{label}"
                yield from _signs(scene, instance, signs, stem, is_drawn=is_drawn)


def _size(instance: Shared) -> int:
    member, label = instance[0]
    return len(member.domains[label])


@dataclass(frozen=True)
class _Scene:
    """Where the instances of a case are drawn: on the grid of the first run with instances."""

    member: Member
    canvas: Canvas
    compared: Compared
    with_signs: int  # how many runs of the case have maps with channels

    @classmethod
    def of(cls, member: Member, members: Sequence[Member], compared: Compared) -> "_Scene":
        return cls(
            member,
            canvas_of(member.file.tree),
            compared,
            sum(one.has_channels for one in members),
        )

    def attribution(self, near: Neighbourhood) -> Attribution:
        """Return a map on the grid of this member."""
        return self.moved(Attribution(near.label, near.values, near.box.start))

    def moved(self, shared: Attribution) -> Attribution:
        """Bring a map from the shared grid to that of this member."""
        whole = Box(self.member.place, self.member.file.grid.shape)
        box = intersection(shared.box, whole) or Box(self.member.place, shared.box.size)
        values = shared.values[box.seen_from(shared.box).index]
        return replace(shared, values=values, offset=box.seen_from(whole).start)

    def domain(self, member: Member, label: int) -> np.ndarray:
        """Place a domain on the grid that is drawn."""
        grid = self.member.file.grid
        mask = np.zeros(grid.shape, dtype=bool)
        voxels = member.domains[label] - self.member.place
        mask[tuple(voxels[((voxels >= 0) & (voxels < grid.shape)).all(axis=1)].T)] = True
        return resample(mask, grid, self.canvas.grid, order=0)

    def title(self, instance: Shared) -> str:
        """Name the case and the instance."""
        member, label = instance[0]
        case = member.file.provenance.get("case", {}).get("name", "")
        return f"{case}: instance {label}".removeprefix(": ")


def _nears(instance: Shared) -> list[Neighbourhood]:
    """Read the map of an instance in each run."""
    (first, label), *others = instance
    near = [neighbours(first, other, (label, partner)) for other, partner in others]
    return [near[0][0], *(there for _, there in near)]


def _strip(scene: _Scene, instance: Shared, place: ExportFolder, name: str) -> Path:
    canvas, (first, label) = scene.canvas, instance[0]
    members = [member for member, _ in instance]
    seen = [
        Seen(
            scene.compared.names[member.run.key],
            canvas.place_map(scene.attribution(near)),
            scene.domain(first, label) if member.is_class_level else scene.domain(member, partner),
        )
        for (member, partner), near in zip(instance, _nears(instance), strict=True)
    ]
    is_one = all(in_same_unit(first, other) for other in members)
    said = "one scale" if is_one else "each on a scale of its own: units differ"
    figure = draw_strip(
        canvas.image,
        seen,
        channels=first.file.channels,
        spacing=canvas.grid.spacing,
        title=f"{scene.title(instance)}, {said}",
        unit=first.unit if is_one else None,
        picture=canvas.picture,
    )
    with place.writing(name) as draft:
        save_figure(figure, draft)
    return place.folder / name


def _signs(
    scene: _Scene, instance: Shared, place: ExportFolder, stem: str, *, is_drawn: bool
) -> Iterator[Path]:
    near = [one for one in _nears(instance) if not one.is_heat]
    held = held_signs(near) if 1 < len(near) == scene.with_signs else None
    if held is None:
        return
    (first, label), canvas = instance[0], scene.canvas
    shown = scene.moved(held)
    make_folder(place.folder)
    yield from export_map(first.file.tree, place, stem, shown)
    if is_drawn:
        figure = draw_instance(
            canvas.image,
            canvas.place_map(shown),
            scene.domain(first, label),
            channels=first.file.channels,
            title=f"{scene.title(instance)}, {held.unit}",
            spacing=canvas.grid.spacing,
            unit=held.unit,
            picture=canvas.picture,
        )
        name = file_name(f"{stem}.png")
        with place.writing(name) as draft:
            save_figure(figure, draft)
        yield place.folder / name
