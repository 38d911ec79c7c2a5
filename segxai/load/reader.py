"""Cases: the files of one case, loaded without a plugin as an image that a network takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from nibabel.orientations import aff2axcodes
from skimage.measure import label as label_objects

from segxai.errors import SegxaiError, collecting, warn
from segxai.geometry import Grid
from segxai.load.bands import holds_bands, load_bands
from segxai.load.channels import check_same_grid, load_volumes
from segxai.load.normalisation import Normalisation
from segxai.load.pictures import Picture, load_picture, load_picture_labels
from segxai.load.resampling import describe_change, has_same_voxels, resample, working_grid
from segxai.load.volumes import Volume, load_labels, source_of
from segxai.text import format_shape
from segxai.types import Case, Source

LoadCase = Callable[[Mapping[str, Path]], Case]
PICTURE = "image"  # the role of a picture that fills all channels
COLOURS = ("red", "green", "blue")
# fmt: off
PICTURES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".jp2", ".avif",
    ".npy",
)
# fmt: on


@dataclass(frozen=True)
class Reader:
    """The settings that turn a case's files into the network's input.

    Parameters
    ----------
    channels : tuple of str
        Names of the network's input channels, in their order.
    normalisation : Normalisation
        How the values are normalised.
    spacing_mm : float, optional
        Volumes are brought to RAS and this voxel size; if not given, they stay as in the file.
    """

    channels: tuple[str, ...]
    normalisation: Normalisation
    spacing_mm: float | None = None

    def read(self, files: Mapping[str, Path]) -> Case:
        """Read volumes or pictures as a case, without a reference.

        Parameters
        ----------
        files : mapping
            One file for each channel, or the same 4D file for each; or one picture, named "image",
            for all three, or with a band for each.

        Raises
        ------
        SegxaiError
            If a file cannot be used, or they do not fit together.
        """
        pictures = [path for path in files.values() if is_picture(path)]
        if pictures and len(pictures) < len(files):
            raise SegxaiError(
                f"{pictures[0].name} is a picture, but not all files of the case are; give only "
                "volumes or only pictures"
            )
        return self._pictures(files) if pictures else self._volumes(files)

    def _volumes(self, files: Mapping[str, Path]) -> Case:
        volumes = load_volumes(files, self.channels)
        source = volumes[0].grid
        grid = source if self.spacing_mm is None else working_grid(source, self.spacing_mm)
        raw = np.stack([resample(one.data, one.grid, grid, order=1) for one in volumes])
        return self._case(
            raw,
            grid,
            name=short_name(Path(volumes[0].source.name)),
            source_grid=source,
            notes=(_about_voxels(source, grid),),
            warnings=tuple(f"{one} has the same value in every voxel" for one in _flat(volumes)),
        )

    def _pictures(self, files: Mapping[str, Path]) -> Case:
        path = files.get(PICTURE, Path()) if tuple(files) == (PICTURE,) else Path()
        if holds_bands(path, len(self.channels)):
            picture = load_bands(path, self.channels, PICTURE)
            planes, notes = picture.pixels, picture.notes
        elif path.name and len(self.channels) == 3:
            picture = load_picture(path, PICTURE)
            planes, notes = picture.pixels[list(order_of_colours(self.channels))], picture.notes
        else:
            loaded = [_plane(files[channel], channel) for channel in self.channels]
            planes = np.concatenate([one.pixels for one in loaded])
            notes = tuple(dict.fromkeys(note for one in loaded for note in one.notes))
        grid = Grid.unit(planes.shape[1:])
        name = short_name(next(iter(files.values())))
        return self._case(planes, grid, name=name, notes=notes)

    def _case(
        self,
        raw: Float[np.ndarray, "channel *grid"],
        grid: Grid,
        *,
        name: str,
        notes: tuple[str, ...],
        source_grid: Grid | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Case:
        inside = (raw != 0).any(axis=0)
        return Case(
            name=name,
            image=self.normalisation.apply(raw),
            channels=self.channels,
            grid=grid,
            # A picture is all foreground: black is a colour there.
            foreground=inside if source_grid is not None else np.ones(grid.shape, dtype=bool),
            input_unit=self.normalisation.unit,
            black=self.normalisation.black,
            source_grid=source_grid,
            notes=(*notes, _about_numbers(raw, self.normalisation)),
            warnings=warnings,
        )


def loader(read: LoadCase) -> LoadCase:
    """Build an adapter's `load_case` that reads the same files only once.

    Trial runs for the input size need the case before the run does.
    """

    @cache
    def remembered(files: tuple[tuple[str, Path], ...]) -> Case:
        return _with_warnings(read, dict(files))

    return lambda files: remembered(tuple(files.items()))


def read_case(
    load_case: LoadCase, files: Mapping[str, Path], reference: Path | None = None
) -> Case:
    """Load a case by an adapter's function, and add its sources and an expert's reference.

    Parameters
    ----------
    load_case : callable
        Maps the files, by name, to a case.
    files : mapping
        The files; their names and sha256 are kept as the case's sources.
    reference : Path, optional
        A mask on the grid of the files, not 0 where an expert drew an object; see
        `with_reference`.

    Raises
    ------
    SegxaiError
        If a file cannot be used, or the reference lies on another grid or loses a label.
    """
    case = _with_warnings(load_case, files)
    sources = tuple(source_of(path, role) for role, path in files.items())
    case = replace(case, sources=sources)
    return case if reference is None else with_reference(case, reference)


def _with_warnings(read: LoadCase, files: Mapping[str, Path]) -> Case:
    """Read a case, and keep the warnings about its files in it."""
    with collecting() as warnings:
        case = read(files)
    return replace(case, warnings=tuple(dict.fromkeys((*case.warnings, *warnings))))


def with_reference(case: Case, path: Path) -> Case:
    """Add an expert's objects to a case: the labels of a mask on the grid of its files.

    Labels that are all 1 become booleans. Of others, a run takes those of its class.
    """
    with collecting() as warnings:
        labels, source = _labels(path, "reference", case)
    return replace(
        case,
        reference=labels != 0 if labels.max() == 1 else labels,
        sources=(*case.sources, source),
        warnings=(*case.warnings, *warnings),
    )


def load_mask(path: Path, case: Case) -> Int[np.ndarray, "*grid"]:
    """Load an integer mask on the grid of the case's files, as labels on the grid of instances.

    Raises
    ------
    SegxaiError
        If it cannot be used, lies on another grid, or loses a label in resampling.
    """
    return _labels(path, "mask", case)[0]


def _labels(path: Path, role: str, case: Case) -> tuple[Int[np.ndarray, "*grid"], Source]:
    grid = case.domain_grid
    if len(grid.shape) == 2:
        return _picture_labels(path, role, grid)
    labels, own, source = load_labels(path, role)
    image_grid = case.source_grid or case.grid
    check_same_grid(("the image", image_grid), (f"{role} {source.name}", own))
    moved = resample(labels, image_grid, grid, order=0)
    lost = sorted(set(np.unique(labels)) - set(np.unique(moved)) - {0})
    if lost:
        raise SegxaiError(
            f"{source.name}: label {lost[0]} is lost on the network's grid of "
            f"{format_shape(grid.shape)} voxels: it is smaller than they are, or lies where the "
            "network sees nothing; leave it out or draw it larger"
        )
    if not has_same_voxels(image_grid, grid):
        _warn_of_vanished(labels, image_grid, grid, f"{role} {source.name}")
    return moved, source


def _warn_of_vanished(
    labels: Int[np.ndarray, "*source"], source: Grid, target: Grid, what: str
) -> None:
    """Warn if connected objects of a mask have no voxel on another grid."""
    objects, count = label_objects(labels, connectivity=2, return_num=True)
    kept = np.count_nonzero(np.unique(resample(objects, source, target, order=0)))
    if kept < count:
        warn(
            f"{count - kept} of the {count} objects in {what} vanish on the network's grid of "
            f"{format_shape(target.shape)} voxels: they are smaller than its voxels, or lie where "
            "it sees nothing"
        )


def is_picture(path: Path) -> bool:
    """Return whether a file is a 2D picture, judging by its suffix."""
    return path.suffix.lower() in PICTURES


def input_names(channels: tuple[str, ...], images: Sequence[str]) -> tuple[str, ...]:
    """Name the files of a case after its channels, unless one picture fills them all."""
    path = Path(images[0]) if len(images) == 1 < len(channels) else Path()
    fills = is_picture(path) and (len(channels) == 3 or holds_bands(path, len(channels)))
    return (PICTURE,) if fills else channels


def order_of_colours(channels: tuple[str, ...]) -> tuple[int, ...]:
    """Find the plane (red, green, blue) of each channel: by name if possible, else in order."""
    names = tuple(name.lower() for name in channels)
    for known in (COLOURS, tuple(colour[0] for colour in COLOURS)):
        if sorted(names) == sorted(known):
            return tuple(known.index(name) for name in names)
    return (0, 1, 2)


def _picture_labels(path: Path, role: str, grid: Grid) -> tuple[Int[np.ndarray, "y x"], Source]:
    labels, source = load_picture_labels(path, role)
    if labels.shape != grid.shape:
        raise SegxaiError(
            f"{role} {source.name} has {format_shape(labels.shape)} pixels, the picture "
            f"{format_shape(grid.shape)} (rows x columns); give one of the same size"
        )
    return labels, source


def _plane(path: Path, channel: str) -> Picture:
    """Load the picture of one channel: grey, or an array."""
    if holds_bands(path, 1):
        return load_bands(path, (channel,), channel)
    picture = load_picture(path, channel)
    if (picture.pixels == picture.pixels[:1]).all():
        return replace(picture, pixels=picture.pixels[:1])
    raise SegxaiError(
        f"{channel} file {path.name} is a colour picture, given for a single channel; name "
        "three channels (--channels red,green,blue), or convert it to grey"
    )


def short_name(path: Path) -> str:
    """Return the name of a file or folder up to its first dot."""
    return path.absolute().name.split(".")[0] or path.name


def _flat(volumes: list[Volume]) -> list[Volume]:
    return [one for one in volumes if bool((one.data == one.data.flat[0]).all())]


def _about_voxels(source: Grid, grid: Grid) -> str:
    change = describe_change(source, grid)
    if change is not None:
        return f"{change} for the network; exported on the input's grid"
    steps = " x ".join(f"{step:.3g}" for step in grid.spacing)
    axes = "".join(aff2axcodes(grid.affine))
    return f"not reoriented or resampled: the model gets {axes} voxels of {steps} mm"


def _about_numbers(raw: Float[np.ndarray, "channel *grid"], normalisation: Normalisation) -> str:
    low, high = float(raw.min()), float(raw.max())
    if normalisation.text == "none":
        return f"not normalised: the model gets values from {low:.4g} to {high:.4g} as in the file"
    return f"normalised by {normalisation.text}: values are {low:.4g} to {high:.4g} in the file"
