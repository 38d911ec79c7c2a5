"""Result files, broken in every way that a stranger may think of.

python -m tests.fuzz.results --cases 500 --seed 0
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from tests.commandline import TOYS, make_case, remove_maps, segxai, write_nifti
from tests.fuzz.outcomes import Try, main
from tests.toy.segxai_toy import picture

Rng = np.random.Generator

RUN = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
RUN += ("--reference", "mask.nii.gz")
FEW = ("--instances", "2,3")
QUICK = ("--method", "gradient", "--aggregator", "mean")
READ: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("show", "r.h5"), ()),
    (("show", "r.h5", "--json"), ()),
    (("show", "r.h5", "--png", "drawn"), ("drawn/*",)),
    (("export", "r.h5", "maps", "--run", "gradient-mean"), ("maps/*",)),
    (("export", "r.h5", "maps"), ("maps/*",)),
    (("rerun", "r.h5", "--run", "gradient-mean"), ()),
    (("rerun", "r.h5"), ()),
    ((*RUN, *QUICK, *FEW), ("r.h5", "r.png")),
    ((*RUN, "--method", "toy_image", "--append", *FEW), ("r.h5", "r.png")),
)
WRONG = (None, True, -1, 0, 3, 2.5, 1e300, 10**30, "", "no", "\x1b[31m\n", [], [[]], ["x"], {})
WRONG += ([-1, 99], {"name": 3}, "/dev/zero", "/", "../../etc/passwd", float("nan"))


@cache
def good() -> Path:
    """A folder with a case and its good result of two runs, one of them without a map."""
    import os
    import sys

    folder, before = Path(tempfile.mkdtemp()), Path.cwd()
    sys.path.insert(0, str(TOYS))
    os.chdir(folder)
    try:
        make_case(folder)
        write_nifti(folder / "mask.nii.gz", (picture()[0] > 0.5).astype(np.uint8))
        for options in ((*QUICK, *FEW), ("--method", "gradcam++", "--append", *FEW)):
            done = segxai(*RUN, *options)
            if done.status:
                raise RuntimeError(done.err)
        _make_unfinished(folder / "r.h5")
    finally:
        os.chdir(before)
    return folder


def _make_unfinished(path: Path) -> None:
    """Take away the last map, so that there is something to resume."""
    remove_maps(path, "gradient-mean", 3)


def fuzz(rng: Rng, folder: Path) -> Try:
    """Copy the good case to a folder, break its result, and choose a command."""
    for path in good().iterdir():
        shutil.copy(path, folder)
    words, chosen = [], [_pick(rng, CHANGES) for _ in range(_pick(rng, (1, 1, 1, 2, 3)))]
    for change in sorted(chosen, key=lambda change: change in BYTES):  # last: they break the parser
        try:
            words.append(f"{change.__name__.strip('_')} {change(rng, folder / 'r.h5')}")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError):
            continue  # broken too much already to be broken in this way
    command, may_write = _pick(rng, READ)
    return Try(command, may_write, "; ".join(words))


def _pick(rng: Rng, choices):
    return choices[int(rng.integers(len(choices)))]


# ------------------------------------------------------------------------------------------- bytes


def _flip(rng: Rng, path: Path) -> str:
    content = bytearray(path.read_bytes())
    places = rng.integers(len(content), size=int(rng.choice([1, 8, 64, 512])))
    for place in places:
        content[place] = int(rng.integers(256))
    path.write_bytes(content)
    return f"{len(places)} bytes"


def _flip_structure(rng: Rng, path: Path) -> str:
    """Change bytes near the signatures of HDF5's own tables."""
    content = bytearray(path.read_bytes())
    marks = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"GCOL", b"FRHP", b"BTHD", b"DIMENSION")
    found = [at for mark in marks for at in _all_of(bytes(content), mark)]
    for _ in range(int(rng.integers(1, 6))):
        place = _pick(rng, found) + int(rng.integers(64))
        content[min(place, len(content) - 1)] = int(rng.integers(256))
    path.write_bytes(content)
    return ""


def _all_of(content: bytes, mark: bytes) -> list[int]:
    places, at = [], content.find(mark)
    while at >= 0:
        places.append(at)
        at = content.find(mark, at + 1)
    return places


def _cut(rng: Rng, path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content)))])
    return ""


def _blank(rng: Rng, path: Path) -> str:
    content = bytearray(path.read_bytes())
    start, size = int(rng.integers(len(content))), int(rng.integers(1, 4096))
    content[start : start + size] = bytes(len(content[start : start + size]))
    path.write_bytes(content)
    return f"{size} bytes"


# ------------------------------------------------------------------------------- groups and arrays


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found


def _arrays(file: h5py.File) -> list[str]:
    return [name for name in _names(file) if isinstance(file[name], h5py.Dataset)]


def _remove(rng: Rng, path: Path) -> str:
    with h5py.File(path, "a") as file:
        name = _pick(rng, _names(file))
        del file[name]
    return name


def _rename(rng: Rng, path: Path) -> str:
    with h5py.File(path, "a") as file:
        name = _pick(rng, _names(file))
        new = _pick(rng, ("x", "-1", "007", "9" * 30, "\x1b]0;x\x07", "a\nb", "..", "é", "=1+1"))
        file.move(name, f"{name.rpartition('/')[0]}/{new}")
    return name


def _retype(rng: Rng, path: Path) -> str:
    """Put an array of another type or shape in the place of one."""
    with h5py.File(path, "a") as file:
        name = _pick(rng, _arrays(file))
        shape = file[name].shape
        del file[name]
        values = _pick(rng, _values(rng, shape))
        file.create_dataset(name, data=values)
    return name


def _values(rng: Rng, shape: tuple[int, ...]) -> list[object]:
    numbers = rng.normal(size=shape)
    return [
        numbers,
        numbers.astype(complex),
        numbers.astype(np.int64) * 10**15,
        np.full(shape, np.nan),
        np.full(shape, "word", dtype=h5py.string_dtype()),
        np.full(shape, b"word"),
        np.zeros((*shape, 2)),
        np.zeros(shape[1:]),
        np.zeros((0, *shape[1:])),
        np.zeros(shape, dtype=[("a", "i4"), ("b", "f8")]),
        np.zeros(shape, dtype=bool),
        h5py.Empty("f"),
        np.zeros(shape, dtype=h5py.ref_dtype),
    ]


def _overwrite(rng: Rng, path: Path) -> str:
    """Change values in place, and with them the meaning of labels, boxes and affines."""
    with h5py.File(path, "a") as file:
        name = _pick(rng, _arrays(file))
        array, worst = file[name], (0, -1, 1, 10**9, -(2**31), float("nan"), float("inf"))
        array[...] = "\x1b[2J\nforged: yes" if array.dtype.kind == "O" else _pick(rng, worst)
    return name


def _replace_by_group(rng: Rng, path: Path) -> str:
    with h5py.File(path, "a") as file:
        name = _pick(rng, _arrays(file))
        del file[name]
        file.create_group(name)
    return name


def _replace_by_array(rng: Rng, path: Path) -> str:
    with h5py.File(path, "a") as file:
        name = _pick(rng, [name for name in _names(file) if name not in _arrays(file)])
        del file[name]
        file[name] = 1.0
    return name


# ------------------------------------------------------------------------------------------- links


def _link(rng: Rng, path: Path) -> str:
    """Put a link where something was: to a parent, beside, nowhere, or to another file."""
    with h5py.File(path, "a") as file:
        name = _pick(rng, _names(file))
        parent = name.rpartition("/")[0] or "/"
        kind = _pick(rng, ("parent", "root", "other", "soft", "external", "nowhere"))
        target = {
            "parent": lambda: file[parent],
            "root": lambda: file["/"],
            "other": lambda: file[_pick(rng, _names(file))],
            "soft": lambda: h5py.SoftLink("/input"),
            "external": lambda: h5py.ExternalLink("/etc/passwd", "/"),
            "nowhere": lambda: h5py.SoftLink("/nowhere"),
        }[kind]()
        if rng.random() < 0.5:
            del file[name]
        else:
            name = f"{parent}/new"
        file[name] = target
    return f"{kind} {name}"


def _elsewhere(rng: Rng, path: Path) -> str:
    """Take the values of an array from another file."""
    with h5py.File(path, "a") as file:
        name = _pick(rng, _arrays(file))
        array = file[name]
        shape, kind = array.shape, array.dtype
        del file[name]
        size = int(np.prod(shape)) * kind.itemsize
        if rng.random() < 0.5:
            file.create_dataset(name, shape, kind, external=[("/etc/passwd", 0, size)])
        else:
            layout = h5py.VirtualLayout(shape, kind)
            layout[...] = h5py.VirtualSource("/etc/passwd", name, shape)
            file.create_virtual_dataset(name, layout)
    return name


def _inflate(rng: Rng, path: Path) -> str:
    """Declare an array that is far larger than the file."""
    with h5py.File(path, "a") as file:
        name = _pick(rng, _arrays(file))
        array = file[name]
        kind, shape = array.dtype, tuple(4000 for _ in array.shape)
        del file[name]
        chunks = (8,) * len(shape) if rng.random() < 0.7 and shape else None
        file.create_dataset(name, shape, kind, chunks=chunks, compression=chunks and "gzip")
    return name


# -------------------------------------------------------------------------------------- attributes


def _attribute(rng: Rng, path: Path) -> str:
    with h5py.File(path, "a") as file:
        owners = [name for name in ("/", *_names(file)) if len(file[name].attrs)]
        owner = file[_pick(rng, owners)]
        key = _pick(rng, [*owner.attrs, "scale_factor", "add_offset", "units", "_FillValue"])
        if rng.random() < 0.3:
            owner.attrs.pop(key, None)
        else:
            owner.attrs[key] = _pick(
                rng, (3, -1.5, "no", "days since 2000", b"x", np.zeros((2, 2)), h5py.Empty("f"))
            )
    return key


def _record(rng: Rng, path: Path) -> str:
    """Change one value somewhere in a provenance or in the facts of a map."""
    with h5py.File(path, "a") as file:
        owners = [name for name in ("/", *_names(file)) if _key_of(file[name])]
        name = _pick(rng, owners)
        key = _key_of(file[name])
        record = json.loads(file[name].attrs[key])
        where = _change(rng, record)
        text = json.dumps(record)
        if rng.random() < 0.1:
            text = _pick(rng, ("[" * 10**5, "{", "[1]", "3", '{"started": NaN}', ""))
        file[name].attrs[key] = text
    return f"{name} {where}"


def _key_of(item: h5py.HLObject) -> str:
    return next((key for key in ("provenance", "facts") if key in item.attrs), "")


def _change(rng: Rng, record: object) -> str:
    """Go down into a record at random, and replace or remove what is there."""
    keys: list = list(record) if isinstance(record, dict) else list(range(len(record)))
    key = _pick(rng, keys)
    if isinstance(record[key], dict | list) and record[key] and rng.random() < 0.7:
        return f"{key} {_change(rng, record[key])}"
    if rng.random() < 0.2:
        del record[key]
    else:
        record[key] = _pick(rng, WRONG)
    return str(key)


Change = Callable[[Rng, Path], str]
BYTES: tuple[Change, ...] = (_flip, _flip_structure, _cut, _blank)
CHANGES: tuple[Change, ...] = (
    *BYTES,
    _remove,
    _rename,
    _retype,
    _retype,
    _overwrite,
    _overwrite,
    _replace_by_group,
    _replace_by_array,
    _link,
    _link,
    _elsewhere,
    _inflate,
    _attribute,
    _record,
    _record,
    _record,
)

if __name__ == "__main__":
    main(fuzz)
