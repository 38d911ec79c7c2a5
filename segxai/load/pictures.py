"""Pictures: files (PNG, JPEG, TIFF ...) loaded as RGB, or as label masks. Imports no torch."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from segxai.errors import SegxaiError, one_line, warn
from segxai.load.existence import not_found
from segxai.load.limits import check_size, largest
from segxai.load.volumes import LARGEST_LABEL, source_of
from segxai.types import Source

# Listed, since Pillow would run other programs for some of the formats it knows.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
EIGHT_BITS = ("L", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "1", "P", "LA", "PA", "RGBA", "La", "RGBa")
SEEN_THROUGH = "transparent pixels are laid on white"
ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class Picture:
    """The colours of one picture file, what reading did to them, and the file.

    Parameters
    ----------
    pixels : ndarray of shape (channel, y, x)
        Red, green and blue from 0 to 255; the first row is the top one.
    notes : tuple of str
        What reading did to the values in the file.
    source : Source
        The file.
    """

    pixels: Float[np.ndarray, "channel y x"]
    notes: tuple[str, ...]
    source: Source


def load_picture(path: str | PathLike[str], role: str) -> Picture:
    """Load a picture file as RGB from 0 to 255, upright.

    The EXIF orientation is applied. Grey is repeated in all three channels, transparent pixels are
    put on a white background, 16-bit values are scaled to 0 to 255 with a fraction, CMYK is
    converted without a colour profile, and only the first of several frames and the first three of
    more bands are taken. `notes` say what was done, a warning which bands were left out.

    Parameters
    ----------
    path : path
        PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or AVIF.
    role : str
        What the file is for; used in messages.

    Raises
    ------
    SegxaiError
        If the file is missing, cut off, not a picture or implausibly large, or has 32 bits per
        pixel.
    """
    path = Path(path)
    with _opened(path, role, FORMATS) as file:
        pixels, converted = _as_rgb(file.upright, f"{role} file {path.name}")
    _warn_of_bands(path, file.storage, converted)
    return Picture(pixels, (*file.notes(), *converted), source_of(path, role))


def _warn_of_bands(path: Path, storage: str, converted: tuple[str, ...]) -> None:
    """Warn if a TIFF has more bands than colours: a fourth one may be near infrared."""
    if "RGBX" in storage:
        warn(
            f"{path.name} has more than three bands: the first three are taken as red, green and "
            "blue, the others are left out"
        )
    elif path.suffix.lower() in (".tif", ".tiff") and SEEN_THROUGH in converted:
        warn(
            f"the last band of {path.name} is marked as transparency, so {SEEN_THROUGH}; if it is "
            "one of the image's (near infrared), remove the mark"
        )


def load_picture_labels(
    path: str | PathLike[str], role: str
) -> tuple[Int[np.ndarray, "y x"], Source]:
    """Load the labels in a mask file (int32, first row at the top), with their source.

    Parameters
    ----------
    path : path
        PNG, TIFF, BMP, GIF or PPM whose pixels are labels, or NumPy's .npy (y, x). In a picture
        with a palette, the palette indices are the labels; in an RGB picture, the grey values are,
        if all pixels are grey.
    role : str
        What the file is for; used in messages.

    Raises
    ------
    SegxaiError
        If the file is missing, cut off or lossy, or holds colours, fractions, negative numbers,
        several frames or only 0.
    """
    path, name = Path(path), f"{role} file {Path(path).name}"
    values = load_array(path, role) if path.suffix == ".npy" else _indices(path, role)
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise SegxaiError(
            f"{name} is not a mask: it is an array {values.shape} of {values.dtype}; give labels, "
            "one number for each pixel (y, x)"
        )
    return _as_labels(values, name), source_of(path, role)


@dataclass(frozen=True)
class _Opened:
    """A picture that has been read and turned upright, with facts about its file."""

    upright: Image.Image
    frames: int
    orientation: int
    storage: str

    def notes(self) -> list[str]:
        """List what reading did, before any conversion."""
        notes = []
        if self.frames > 1:
            notes.append(f"the first of its {self.frames} frames is taken")
        if self.orientation in range(2, 9):
            notes.append(f"turned as its EXIF orientation {self.orientation} says")
        if "RGB" in self.storage and ";16" in self.storage:
            notes.append("16-bit colours became 8-bit")  # by Pillow
        return notes


@contextmanager
def _opened(path: Path, role: str, formats: tuple[str, ...]) -> Iterator["_Opened"]:
    """Open a picture file and read all of it."""
    if not path.is_file():
        raise _not_a_file(path, role)
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(path.open("rb"))
            stack.enter_context(_strict_about_size())
            image = stack.enter_context(Image.open(stream, formats=formats))
            storage = str(image.tile[0].args) if image.tile else ""
            orientation = image.getexif().get(ORIENTATION, 1)
            # Reads the whole file. Pillow turns a TIFF as it reads it: no orientation is left then.
            upright = ImageOps.exif_transpose(image)
        # Readers raise what their format's parser raises: OSError, SyntaxError, struct.error ...
        except Exception as error:
            raise _unreadable(path, role, formats, error) from error
        yield _Opened(upright, getattr(image, "n_frames", 1), orientation, storage)


@contextmanager
def _strict_about_size() -> Iterator[None]:
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, largest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which are not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _not_a_file(path: Path, role: str) -> SegxaiError:
    if path.is_dir():
        return SegxaiError(f"{role} {path} is a folder; give the picture file in it")
    return not_found(path, role)


def _unreadable(path: Path, role: str, formats: tuple[str, ...], error: Exception) -> SegxaiError:
    name = f"{role} file {path.name}"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return SegxaiError(
            f"{name} claims more than {largest():.3g} pixels, too many for a network; crop it, "
            "make it smaller, or give a larger --max-voxels"
        )
    if isinstance(error, UnidentifiedImageError):
        lossy = "" if "JPEG" in formats else " (JPEG and WebP would blur labels)"
        return SegxaiError(
            f"{name} is not one of {', '.join(formats)}, or is of a kind that Pillow does "
            f"not read{lossy}; save it as PNG"
        )
    return SegxaiError(
        f"{name} cannot be read as a picture ({one_line(error)}); copy it again if it was cut off"
    )


def _as_rgb(
    image: Image.Image, name: str
) -> tuple[Float[np.ndarray, "channel y x"], tuple[str, ...]]:
    """Convert a picture to red, green and blue, and say what was done."""
    if image.mode in SIXTEEN_BITS:
        grey = np.asarray(image, dtype=np.float32) / 257
        return np.stack([grey] * 3), ("16-bit grey: divided by 257, repeated as red, green, blue",)
    if image.mode not in EIGHT_BITS:
        raise SegxaiError(
            f"{name} holds 32 bits per pixel (mode {image.mode!r}), and which values are black "
            "and white is unknown; scale it to 0 to 255 and save it as an 8-bit PNG"
        )
    notes = []
    if image.has_transparency_data:
        image, is_seen_through = _on_white(image)
        notes += [SEEN_THROUGH] if is_seen_through else []
    if image.mode in ("1", "L", "LA"):
        notes.append("grey: repeated as red, green, blue")
    elif image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        notes.append(f"converted from {image.mode} to RGB without a colour profile")
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)), tuple(notes)


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """Put a picture on white (grey stays grey), and tell whether any pixel was transparent."""
    is_grey = image.mode in ("L", "LA", "La", "1")
    clear = image.convert("RGBA")
    is_seen_through = bool((np.asarray(clear)[..., 3] < 255).any())
    white = Image.new("RGBA", clear.size, "white")
    flat = Image.alpha_composite(white, clear)
    return flat.convert("L" if is_grey else "RGB"), is_seen_through


def load_array(path: Path, role: str) -> Shaped[np.ndarray, "*shape"]:
    """Load the array in a .npy file, without running any code in it."""
    if not path.is_file():
        raise _not_a_file(path, role)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        check_size(getattr(values, "shape", ()), f"{role} file {path.name}")
        return np.array(values)
    except SegxaiError:
        raise
    # The header is an expression of Python: its parser raises errors of many types.
    except Exception as error:
        raise SegxaiError(
            f"{role} file {path.name} cannot be read as an array ({one_line(error)}); save it "
            "again with numpy.save"
        ) from error


def _indices(path: Path, role: str) -> Shaped[np.ndarray, "*shape"]:
    """Read the values of a mask's pixels as they are stored."""
    with _opened(path, role, LOSSLESS) as file:
        if file.frames > 1:
            raise SegxaiError(
                f"{role} file {path.name} has {file.frames} frames; give a mask with one"
            )
        opaque = {"RGBA": "RGB", "LA": "L"}.get(file.upright.mode)
        values = np.asarray(file.upright.convert(opaque) if opaque else file.upright)
    if values.ndim == 3 and (values == values[..., :1]).all():
        return values[..., 0]
    if values.ndim == 3:
        raise SegxaiError(
            f"{role} file {path.name} holds colours, not labels: give one number for each pixel "
            "(grey or palette), or a .npy"
        )
    return values


def _as_labels(values: Shaped[np.ndarray, "y x"], name: str) -> Int[np.ndarray, "y x"]:
    numbers = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~((numbers >= 0) & (numbers <= LARGEST_LABEL) & (numbers == np.rint(numbers)))
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise SegxaiError(
            f"{name} is not a mask: {wrong.sum()} pixels are not whole numbers from 0 (the first "
            f"is {numbers[y, x]:g} at y {y}, x {x}); give labels, or threshold it"
        )
    if not numbers.any():
        raise SegxaiError(f"{name} is empty: every pixel is 0; give a mask with objects")
    return numbers.astype(np.int32)
