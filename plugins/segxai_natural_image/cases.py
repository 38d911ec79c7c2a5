"""Cases: a picture as its network takes it, with its instances on the picture's own pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from segxai import (
    Case,
    Grid,
    Picture,
    format_shape,
    load_picture,
)
from segxai_natural_image import FILES

(INPUT,) = FILES
Pixels = Float[np.ndarray, "3 y x"]  # red, green and blue from 0 to 255


@dataclass(frozen=True)
class Feed:
    """The preparation of a picture as a network's input.

    Parameters
    ----------
    channels : tuple of str
        Names of the network's input channels.
    apply : callable
        Maps the pixels to the input (channel, h, w), resized and normalised: the picture's corners
        are the input's.
    unit : str
        What 1 means in the input.
    notes : callable
        Maps the pixels to notes on that for the user.
    """

    channels: tuple[str, ...]
    apply: Callable[[Pixels], Float[np.ndarray, "channel h w"]]
    unit: str
    notes: Callable[[Pixels], tuple[str, ...]] = lambda pixels: ()

    def case(self, pixels: Pixels, name: str) -> Case:
        """Build the case of a picture that does not come from a file."""
        image = self.apply(pixels)
        source = Grid.unit(pixels.shape[1:])
        is_flat = bool((pixels == pixels[:, :1, :1]).all())
        return Case(
            name=name,
            image=np.ascontiguousarray(image, dtype=np.float32),
            channels=self.channels,
            grid=resized(source, image.shape[1:]),
            foreground=np.ones(image.shape[1:], dtype=bool),
            input_unit=self.unit,
            black=tuple(self.apply(np.zeros_like(pixels))[:, 0, 0].tolist()),
            source_grid=source,
            domains_on_source=True,
            picture=np.moveaxis(pixels, 0, -1).round().astype(np.uint8),
            notes=(*_resizing(source.shape, image.shape[1:]), *self.notes(pixels)),
            warnings=("the picture has one colour everywhere",) if is_flat else (),
        )

    def load(self, files: Mapping[str, Path]) -> Case:
        """Load the case of a picture file.

        Parameters
        ----------
        files : mapping
            The file of "image".

        Raises
        ------
        SegxaiError
            If the file cannot be used.
        """
        picture = load_picture(files[INPUT], INPUT)
        case = self.case(picture.pixels, files[INPUT].name.split(".")[0] or INPUT)
        return replace(case, notes=_notes(picture, case))


def resized(source: Grid, shape: tuple[int, ...]) -> Grid:
    """Build the grid of another shape whose outer borders, not pixel centres, are the source's."""
    steps = np.array(source.shape) / np.array(shape)
    change = np.diag([*steps, 1.0])
    change[:-1, -1] = (steps - 1) / 2
    return Grid(tuple(int(n) for n in shape), source.affine @ change)


def _resizing(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[str, ...]:
    if before == after:
        return ()
    return (
        f"resized from {format_shape(before)} to {format_shape(after)} pixels (rows x columns) for "
        "the network; instances are those of the picture's own pixels",
    )


def _notes(picture: Picture, case: Case) -> tuple[str, ...]:
    return (*picture.notes, *case.notes)
