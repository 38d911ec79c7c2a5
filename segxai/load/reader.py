"""Cases: the files of one case, loaded without a plugin as an image that a network takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from nibabel.orientations import aff2axcodes

from segxai.errors import SegxaiError, collecting, option
from segxai.geometry import Grid
from segxai.load.bands import holds_bands, load_bands
from segxai.load.case_names import case_names
from segxai.load.channels import load_volumes
from segxai.load.masks import with_reference
from segxai.load.normalisation import Normalisation
from segxai.load.pictures import Picture, load_picture
from segxai.load.resampling import describe_change, resample, working_grid
from segxai.load.volumes import Volume, is_flat, source_of
from segxai.types import Case

LoadCase = Callable[[Mapping[str, Path]], Case]
ABOUT_FLAT = (
    "2D images of NIfTI: the model gets the file's axes in their order, not turned, and the result "
    "measures them in pixels and calls the first one y, the second one x"
)
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
        if is_flat(files[self.channels[0]]):
            return self._flat(files)
        volumes = load_volumes(files, self.channels)
        source = volumes[0].grid
        grid = source if self.spacing_mm is None else working_grid(source, self.spacing_mm)
        raw = np.stack([resample(one.data, one.grid, grid, order=1) for one in volumes])
        return self._case(
            raw,
            grid,
            name=short_name(Path(volumes[0].source.name)),
            foreground=(raw != 0).any(axis=0),
            source_grid=source,
            notes=(_about_voxels(source, grid),),
            warnings=tuple(f"{one} has the same value in every voxel" for one in _flat(volumes)),
        )

    def _flat(self, files: Mapping[str, Path]) -> Case:
        """Read 2D images of NIfTI: (x, y) as in the file, measured in pixels like pictures."""
        images = load_volumes(files, self.channels, flat=True)
        if self.spacing_mm is not None:
            raise SegxaiError(f"{option('spacing_mm')} is for volumes: {images[0]} is 2D")
        raw = np.stack([one.data for one in images])
        return self._case(
            raw,
            Grid.unit(raw.shape[1:]),
            name=short_name(Path(images[0].source.name)),
            foreground=(raw != 0).any(axis=0),
            notes=(ABOUT_FLAT,),
            warnings=tuple(f"{one} has the same value in every pixel" for one in _flat(images)),
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
        inside = np.ones(grid.shape, dtype=bool)  # black is a colour
        return self._case(planes, grid, name=name, foreground=inside, notes=notes)

    def _case(
        self,
        raw: Float[np.ndarray, "channel *grid"],
        grid: Grid,
        *,
        name: str,
        foreground: Bool[np.ndarray, "*grid"],
        notes: tuple[str, ...],
        source_grid: Grid | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Case:
        return Case(
            name=name,
            image=self.normalisation.apply(raw),
            channels=self.channels,
            grid=grid,
            foreground=foreground,
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
    """Load a case by an adapter's function, and add its name, sources and an expert's reference.

    It is named after the first file: by the entities of BIDS in its name, or else all of it.

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
    name, patient, session = case_names(sources[0].name)
    case = replace(case, sources=sources, name=name, patient=patient, session=session)
    return case if reference is None else with_reference(case, reference)


def _with_warnings(read: LoadCase, files: Mapping[str, Path]) -> Case:
    """Read a case, and keep the warnings about its files in it."""
    with collecting() as warnings:
        case = read(files)
    return replace(case, warnings=tuple(dict.fromkeys((*case.warnings, *warnings))))


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
