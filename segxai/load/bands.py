"""Bands: a picture's channels in one multi-band TIFF or one NumPy array, taken in order."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from tifffile import TiffFile

from segxai.errors import SegxaiError, one_line, warn
from segxai.load.limits import check_size
from segxai.load.pictures import Picture, load_array
from segxai.load.volumes import source_of
from segxai.text import format_shape

TIFF, ARRAY = (".tif", ".tiff"), ".npy"
RGB = 2  # the photometric interpretation
BANDS = "SCIQ"  # tifffile's names of axes that can be bands: samples, channels, images, other


def holds_bands(path: Path, count: int) -> bool:
    """Tell whether a file's own bands are this many channels: a TIFF's, or an array's.

    Red, green and blue, perhaps with one more, are colours: `load_picture` reads them.
    """
    if path.suffix.lower() == ARRAY:
        return True
    if path.suffix.lower() not in TIFF or not path.is_file():
        return False
    try:
        with _opened(path) as file:
            is_colour = count == 3 and getattr(file.pages[0], "photometric", None) == RGB
            return not is_colour and _sizes(file)[0] == count > 1
    except Exception:  # a parser of strangers' files: whoever reads it says what is wrong
        return False


def load_bands(path: Path, channels: Sequence[str], role: str) -> Picture:
    """Load the bands of a file as the channels, in their order and with the values as stored.

    Parameters
    ----------
    path : Path
        A TIFF; or a .npy of shape (band, y, x) or (y, x, band), or (y, x) for one channel.
    channels : sequence of str
        Names of the channels.
    role : str
        What the file is for; used in messages.

    Raises
    ------
    SegxaiError
        If the file cannot be read, has another number of bands or an unclear order of axes, or
        holds anything other than finite real numbers.

    Warns
    -----
    SegxaiWarning
        About the order that is taken.
    """
    name = f"{role} file {path.name}"
    is_array = path.suffix.lower() == ARRAY
    stored = load_array(path, role) if is_array else _tiff(path, name)
    bands = _bands_first(stored, len(channels), name) if is_array else stored
    if len(bands) != len(channels):
        raise SegxaiError(f"{name} has {len(bands)} bands for {len(channels)} channels")
    if bands.dtype.kind not in "buif" or not np.isfinite(bands).all():
        raise SegxaiError(
            f"{name} holds {bands.dtype} with values that are not finite real numbers"
        )
    if len(channels) > 1:
        warn(
            f"the bands of {path.name} are taken as {', '.join(channels)}, in this order, with "
            "their values as stored"
        )
    return Picture(np.ascontiguousarray(bands, dtype=np.float32), (), source_of(path, role))


def _bands_first(
    values: Shaped[np.ndarray, "*shape"], count: int, name: str
) -> Shaped[np.ndarray, "band y x"]:
    """Find the axis of the bands in an array, by its length, and move it to the front."""
    if values.ndim == 2 and count == 1:
        return values[None]
    ends = {axis for axis in (0, -1) if values.ndim == 3 and values.shape[axis] == count}
    if len(ends) != 1:
        why = (
            "both its first and its last axis may be the bands" if ends else "none has that length"
        )
        raise SegxaiError(
            f"{name} is an array of {format_shape(values.shape)} for {count} channels, and {why}: "
            "give (band, y, x) or (y, x, band)"
        )
    return np.moveaxis(values, ends.pop(), 0)


def _tiff(path: Path, name: str) -> Shaped[np.ndarray, "band y x"]:
    """Read the bands of a TIFF, whether they are samples of a pixel or pages."""
    try:
        with _opened(path) as file:
            count, axis = _sizes(file)
            check_size(file.series[0].shape, name)
            values = np.moveaxis(file.series[0].asarray(), axis, 0)
    except SegxaiError:
        raise
    except Exception as error:  # readers raise what a format's parser raises
        raise SegxaiError(
            f"{name} cannot be read as a TIFF of bands ({one_line(error)}); save it without "
            "compression, or as .npy"
        ) from error
    return values.reshape(count, *values.shape[-2:])


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    """Open a TIFF; tifffile writes what is wrong with a file to stderr, which is kept from it."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with TiffFile(path) as file:
            yield file
    finally:
        logger.setLevel(before)


def _sizes(file: TiffFile) -> tuple[int, int]:
    """Return the number of bands of a TIFF's first series, and their axis; 1 if it has none."""
    series = file.series[0]
    axes = [n for n, letter in enumerate(series.axes) if letter in BANDS]
    if len(series.shape) != 3 or len(axes) != 1:
        return 1, 0
    return int(series.shape[axes[0]]), axes[0]
