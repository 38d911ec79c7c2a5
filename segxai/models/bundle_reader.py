"""Cases of a MONAI bundle: files that its own preprocessing turns into the network's input."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from segxai.errors import SegxaiError, one_line
from segxai.geometry import Grid
from segxai.load.channels import load_volumes
from segxai.load.reader import short_name
from segxai.load.resampling import resample
from segxai.load.voxel_size import check_change
from segxai.types import Case

Prepared = tuple[Float[np.ndarray, "channel *grid"], Float[np.ndarray, "rank rank"]]


@dataclass(frozen=True)
class BundleReader:
    """A reader of cases: the bundle's own preprocessing orients, resamples and normalises them.

    Parameters
    ----------
    name : str
        Name of the bundle.
    preprocessing : callable
        Maps a mapping of file names to a mapping of arrays.
    image : str
        Key of the image in these mappings.
    channels : tuple of str
        Names of the channels: the preprocessing gets their files in this order.
    """

    name: str
    preprocessing: Callable[[dict[str, Any]], Any]
    image: str
    channels: tuple[str, ...]

    def read(self, files: Mapping[str, Path]) -> Case:
        """Read volumes as a case, with the files in the order of the channels.

        Raises
        ------
        SegxaiError
            If a file cannot be used, or the preprocessing fails on it.
        """
        volumes = load_volumes(files, self.channels)
        paths = dict.fromkeys(files[channel] for channel in self.channels)  # one, if it is 4D
        image, affine = self._preprocessed(list(paths))
        grid, source = Grid(image.shape[1:], affine), volumes[0].grid
        check_change(source, grid)
        inside = np.any([volume.data != 0 for volume in volumes], axis=0)
        return Case(
            name=short_name(Path(volumes[0].source.name)),
            image=image,
            channels=self.channels,
            grid=grid,
            foreground=resample(inside, source, grid, order=0),
            source_grid=source,
            notes=("prepared by the bundle's own preprocessing",),
        )

    def _preprocessed(self, paths: list[Path]) -> Prepared:
        """Compute the network's input, and the affine of its grid."""
        names = [str(path) for path in paths]
        given = names if len(names) > 1 else names[0]
        try:
            with without_advice():
                found = self.preprocessing({self.image: given})[self.image]
        except Exception as error:  # somebody else's code: whatever it raises
            raise SegxaiError(
                f"the preprocessing of bundle {self.name} fails on "
                f"{', '.join(path.name for path in paths)}: {in_words(error)}"
            ) from error
        image = np.asarray(found.detach().cpu().numpy(), dtype=np.float32)
        if len(image) != len(self.channels) or not np.isfinite(image).all():
            raise SegxaiError(
                f"the preprocessing of bundle {self.name} returns an image of shape "
                f"{image.shape}; expected {len(self.channels)} finite channels"
            )
        affine = np.asarray(getattr(found, "affine", np.eye(image.ndim)), dtype=np.float64)
        return image, affine


@contextmanager
def without_advice() -> Iterator[None]:
    """Hide warnings meant for the bundle's author from its user, who cannot fix them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def in_words(error: BaseException) -> str:
    """Describe what went wrong first: MONAI wraps it in errors about what it was doing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {one_line(error)}"
