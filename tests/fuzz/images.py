"""Volumes and pictures, broken: `python -m tests.fuzz.images --cases 500 --seed 0`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from tests.fuzz.bytes import Rng, break_bytes, pick
from tests.fuzz.outcomes import Try, main

SHAPE = (12, 11, 10)
FIELDS = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "magic")
FIELDS += ("sform_code", "qform_code", "srow_x", "quatern_b", "sizeof_hdr", "xyzt_units")
VALUES = (0, 1, -1, 2, 255, 32767, -32768, float("nan"), float("inf"), 1e30, 1e-30)
META = "ObjectType = Image\nNDims = 3\nDimSize = 12 11 10\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 12 11 10\nencoding: raw\n"
LAST = {".mhd": "ElementDataFile = a.raw\n", ".mha": "ElementDataFile = LOCAL\n"}
LAST |= {".nhdr": "data file: a.raw\n", ".nrrd": "\n"}
WRITTEN = ("out.h5", "out.png")


def fuzz(rng: Rng, folder: Path) -> Try:
    """Write images to a folder, break one, and explain a trivial model of it."""
    make = pick(rng, (_nifti, _nifti, _nifti, _itk, _picture, _picture, _array))
    name, what = make(rng, folder)
    is_plane = name.endswith((".png", ".tif", ".jpg", ".gif", ".bmp", ".npy"))
    model = "tests.fuzz.models:plane" if is_plane else "tests.fuzz.models:volume"
    image, mask = (name, ()) if name != "mask.npy" else ("a.png", ("--reference", name))
    if not is_plane and rng.random() < 0.3:
        _whole(folder / "b.nii")
        image, mask = "b.nii", ("--reference", name)
    command = ("run", image, "--model", model, "--channels", "image", "--classes", "no,yes")
    command += (*mask, "--method", "gradient", "--rows", "2", "--out", "out.h5", "--device", "cpu")
    return Try(command, WRITTEN, what)


def _whole(path: Path, kind: type = np.uint8) -> None:
    data = np.random.default_rng(0).integers(0, 9, SHAPE).astype(kind)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def _nifti(rng: Rng, folder: Path) -> tuple[str, str]:
    path = folder / "a.nii"
    _whole(path, pick(rng, (np.uint8, np.int16, np.float32, np.float64)))
    what = _break_header(rng, path) if rng.random() < 0.6 else break_bytes(rng, path)
    if rng.random() < 0.5:
        return path.name, what
    zipped = folder / "a.nii.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return zipped.name, what if rng.random() < 0.6 else f"{what}; {break_bytes(rng, zipped)}"


def _break_header(rng: Rng, path: Path) -> str:
    content = path.read_bytes()
    header = np.frombuffer(content[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    field, value = pick(rng, FIELDS), pick(rng, VALUES)
    target = header[field]
    if target.dtype.kind == "S":
        header[field] = pick(rng, (b"", b"ni1", b"xxx", b"n+2"))
    else:
        if target.dtype.kind in "iu":
            low, high = np.iinfo(target.dtype).min, np.iinfo(target.dtype).max
            value = int(np.clip(np.nan_to_num(value), low, high))
        target.reshape(-1)[int(rng.integers(target.size))] = value
    path.write_bytes(header.tobytes() + content[348:])
    return f"{field}: {value}"


def _itk(rng: Rng, folder: Path) -> tuple[str, str]:
    suffix = pick(rng, tuple(LAST))
    data = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8).tobytes()
    (folder / "a.raw").write_bytes(data)
    head = (META if suffix.startswith(".m") else NRRD) + LAST[suffix]
    path = folder / f"a{suffix}"
    path.write_bytes(head.encode() + (b"" if "a.raw" in head else data))
    return path.name, break_bytes(rng, path, head=len(head))


def _picture(rng: Rng, folder: Path) -> tuple[str, str]:
    suffix, mode = pick(rng, ("png", "tif", "jpg", "gif", "bmp")), pick(rng, ("RGB", "L"))
    path = folder / f"a.{suffix}"
    shape = (20, 24, 3) if mode == "RGB" else (20, 24)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(path)
    return path.name, break_bytes(rng, path, head=120)


def _array(rng: Rng, folder: Path) -> tuple[str, str]:
    Image.new("L", (24, 20), 80).save(folder / "a.png")
    path = folder / "mask.npy"
    np.save(path, np.ones((20, 24), dtype=pick(rng, (np.uint8, np.float64, np.int64))))
    return path.name, break_bytes(rng, path, head=128)


if __name__ == "__main__":
    main(fuzz)
