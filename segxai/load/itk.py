"""Volumes that nibabel does not read: NRRD, MetaImage and DICOM series, read by SimpleITK."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float
from nibabel.spatialimages import SpatialImage

from segxai.errors import SegxaiError, one_line
from segxai.load.detached import META, NRRD, detached_files
from segxai.load.limits import check_size

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".dicom", ".ima")
SERIES = "dicom_"  # the start of a series' recorded name
# Named, since ITK would else try each format that it knows, and some of them lead to other files.
FORMATS = dict.fromkeys(META, "MetaImageIO") | dict.fromkeys(NRRD, "NrrdImageIO")
DICOM = "GDCMImageIO"
POSITION = "0020|0032"  # the DICOM tag of a slice's first voxel, in mm
UNEVEN = 0.01  # fraction of a step: more than the rounding in headers
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_for_itk(path: Path) -> bool:
    """Return whether a file or folder is to be read by SimpleITK."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def parts_of(path: Path) -> list[Path]:
    """List the files of a volume: one file, a header and its voxels, or all files of a folder.

    Raises
    ------
    SegxaiError
        If a header names a file outside of its folder.
    """
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.is_file())
    return [path, *(one for one in detached_files(path) if one.is_file())]


def recorded_name(path: Path, sha256: str) -> str:
    """Return the name by which a file is recorded: its own, or a neutral one for a DICOM series.

    A folder of DICOM files is often called after the patient. Its sha256 tells it from others.
    """
    return f"{SERIES}{sha256[:8]}" if path.is_dir() else path.name


def is_series_name(name: str) -> bool:
    """Return whether this is the recorded name of a folder with a DICOM series."""
    return re.fullmatch(f"{SERIES}[0-9a-f]{{8}}", name) is not None


def holds_series(folder: Path) -> bool:
    """Return whether a folder holds a DICOM file, judging by the mark in each file's head."""
    return any(one.is_file() and _head(one)[128:] == b"DICM" for one in folder.iterdir())


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


def read_with_itk(path: Path, role: str) -> SpatialImage:
    """Read the volume in a file, or the DICOM series in a folder, as a nibabel image.

    Voxels are in the order (x, y, z) and the affine maps to RAS, as for NIfTI. ITK itself uses
    (z, y, x) and LPS.

    Raises
    ------
    SegxaiError
        If SimpleITK is not installed, a header names a file outside of its folder, a folder holds
        no series or several, or the slices do not form one volume.
    """
    itk = _simple_itk(path, role)
    detached_files(path)
    with _silent(itk):
        image = _read_series(itk, path, role) if path.is_dir() else _read_file(itk, path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise SegxaiError(
            f"{role} file {path.name} holds {image.GetNumberOfComponentsPerPixel()} numbers for "
            "each voxel (colours, a vector field) instead of one; give a greyscale image"
        )
    if path.suffix.lower() in (".dcm", ".dicom", ".ima") and image.GetSize()[2:] == (1,):
        raise SegxaiError(
            f"{role} file {path.name} is a single slice; give the folder with all slices of its "
            "series"
        )
    return SpatialImage(itk.GetArrayFromImage(image).T, _affine(image))


def _read_file(itk: ModuleType, path: Path) -> Any:
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(FORMATS.get(path.suffix.lower(), DICOM))
    reader.ReadImageInformation()
    check_size(reader.GetSize(), path.name)
    return reader.Execute()


def _affine(image: Any) -> Float[np.ndarray, "4 4"]:
    """Build the affine from voxels to mm in RAS; a 2D image lies at z = 0."""
    axes = min(image.GetDimension(), 3)
    size = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (size, size))[:axes, :axes]
    affine = np.eye(4)
    affine[:axes, :axes] = direction * image.GetSpacing()[:axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    return LPS_TO_RAS @ affine


def _read_series(itk: ModuleType, folder: Path, role: str) -> Any:
    reader = itk.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise SegxaiError(
            f"{role} {folder} is a folder; give the image file in it (NIfTI, .nii.gz), or a folder "
            "with the slices of a DICOM series: there is none in this one"
        )
    names = {one: reader.GetGDCMSeriesFileNames(str(folder), one) for one in series}
    if len(series) > 1:
        listed = ", ".join(f"{one} ({len(files)} files)" for one, files in names.items())
        raise SegxaiError(
            f"{role} {folder} holds {len(series)} DICOM series: {listed}; give a folder with the "
            "files of one"
        )
    _check_size(itk, names[series[0]], folder)
    reader.SetImageIO(DICOM)
    reader.SetFileNames(names[series[0]])
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _check_slices(reader, len(names[series[0]]), folder, role)
    return image


def _check_size(itk: ModuleType, names: Sequence[str], folder: Path) -> None:
    """Check the size of a series by that of its first slice; ITK wants all alike."""
    reader = itk.ImageFileReader()
    reader.SetFileName(names[0])
    reader.SetImageIO(DICOM)
    reader.ReadImageInformation()
    check_size((*reader.GetSize()[:2], len(names)), folder.absolute().name)


def _check_slices(reader: Any, count: int, folder: Path, role: str) -> None:
    """Check that neighbouring slices are one step apart: a missing one would shift the rest."""
    if not all(reader.HasMetaDataKey(n, POSITION) for n in range(count)):
        return
    texts = [reader.GetMetaData(n, POSITION) for n in range(count)]
    places = np.array([[float(number) for number in text.split("\\")] for text in texts])
    steps = np.diff(places, axis=0)
    if count < 3 or (abs(steps - steps[0]) <= UNEVEN * np.linalg.norm(steps[0])).all():
        return
    lengths = np.linalg.norm(steps, axis=1)
    raise SegxaiError(
        f"{role} {folder}: the {count} slices of the DICOM series are {lengths.min():.3g} to "
        f"{lengths.max():.3g} mm apart; a slice is missing, or they belong to several stacks: give "
        "the files of one complete stack"
    )


def _simple_itk(path: Path, role: str) -> ModuleType:
    try:
        import SimpleITK
    except ImportError as error:
        what, todo = f"file {path.name} is", "convert it to NIfTI (.nii.gz)"
        if path.is_dir():
            what = f"{path} is a folder; DICOM series are"
            todo = "give the image file in it (NIfTI, .nii.gz)"
        raise SegxaiError(
            f"{role} {what} read with SimpleITK, which cannot be imported ({one_line(error)}): "
            f"pip install 'segxai[itk]', or {todo}"
        ) from error
    module: ModuleType = SimpleITK
    return module


@contextmanager
def _silent(itk: ModuleType) -> Iterator[None]:
    """Keep ITK from writing its own warnings to stderr."""
    before = itk.ProcessObject.GetGlobalWarningDisplay()
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        itk.ProcessObject.SetGlobalWarningDisplay(before)
