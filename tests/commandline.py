"""The command line as a user meets it: in this process, or in one of its own."""

import os
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import h5py
import nibabel as nib
import numpy as np
import pytest

from segxai.cli import main
from segxai.store.atomic_file import replacing
from tests.toy.segxai_toy import picture

TOYS = Path(__file__).parent / "toy"
SUMMARIES = ("peak", "trough")
SEGXAI = (sys.executable, "-m", "segxai")


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def error(self):
        """The one line that says what is wrong; fails if it is not exactly that."""
        lines = self.err.splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        assert self.status == 2, self
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0], self.err
        assert errors[0].startswith("segxai: error: "), self.err
        return errors[0].removeprefix("segxai: error: ")


def segxai(*arguments):
    """What a command does, run in this process."""
    out, err = StringIO(), StringIO()
    words = ["segxai", *map(str, arguments)]
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return Outcome(status, out.getvalue(), err.getvalue())


def process(*arguments, **environment):
    """What a command does, in a process of its own."""
    done = subprocess.run(
        [*SEGXAI, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def use_toys(monkeypatch, *, drawn=False):
    """Install the package of `tests/toy`, for this process and for those that it starts.

    Unless they are `drawn`, pictures and charts in this process are empty: they take the longest.
    """
    install(monkeypatch, TOYS)
    if not drawn:
        draw_nothing(monkeypatch)


def draw_nothing(monkeypatch):
    """The pictures of runs, and the charts of experiments, in this process are empty files."""
    monkeypatch.setattr(
        "segxai.report.pictures.save_overview", lambda tree, run, path: write_nothing(path)
    )
    monkeypatch.setattr(
        "segxai.experiments.frame.save_chart", lambda figure, path, ending: write_nothing(path)
    )


def write_nothing(path):
    """An empty file, which replaces what a killed process left of a picture as a picture does."""
    with replacing(path, copy=False):
        pass


def install(monkeypatch, folder):
    """Install the packages that lie in a folder."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def package(folder, entry_points, *, name="stranger", version="0.3", **modules):
    """A package in a folder, as an installer lays it down: metadata and modules."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)


def install_project(monkeypatch, folder, site):
    """Install the package of a folder with a `pyproject.toml`, its metadata in another one."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {module}\n" for name, module in found.items())
        for group, found in project["entry-points"].items()
    )
    package(site, points, name=project["name"].replace("-", "_"), version=project["version"])
    install(monkeypatch, folder)
    install(monkeypatch, site)


def make_case(folder):
    """A made-up case for the toy in a folder: two images, and a mask of the balls in them."""
    bright, other = picture()
    write_nifti(folder / "bright.nii.gz", bright)
    write_nifti(folder / "other.nii.gz", other)
    write_nifti(folder / "mask.nii.gz", (bright > 0.5).astype(np.uint8))


def write_reference(path):
    """The path of a reference for that case, with one ball more and one less than the toy finds."""
    reference = picture()[0] > 0.5
    reference[:10, 9:] = False
    reference[8:11, 14:17, 2:4] = True
    return write_nifti(path, reference.astype(np.uint8))


def make_result(folder, *commands):
    """The result `r.h5` of commands that are run one after the other, on that case in a folder."""
    make_case(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        use_toys(patch)
        for command in commands:
            done = segxai(*command)
            assert done.status == 0, done.err
    return folder / "r.h5"


def rows_of(text):
    """The rows of a printed table: their words."""
    lines = [line.split() for line in text.splitlines()]
    start = next(i for i, words in enumerate(lines) if words and set(words[0]) == {"─"})
    return [words for words in lines[start + 1 :] if words and words[0].isdecimal()]


def snapshot(path):
    """Every number in a result, by its path in the file; those of a map below RUN/LABEL."""
    found = {}

    def keep(name, node):
        if isinstance(node, h5py.Dataset) and not name.startswith(("attributions", "summaries")):
            found[name] = node[()]

    with h5py.File(path, "r") as file:
        file.visititems(keep)
        for part in ("attributions", "summaries"):
            for name, run in file.get(part, {}).items():
                rows = {
                    f"{part}/{name}/{label}": row for row, label in enumerate(run.get("label", ()))
                }
                for where, row in rows.items():
                    found |= {f"{where}/{key}": one for key, one in _row_of(run, row).items()}
    return found


def _row_of(run, row):
    """The numbers of one map, or of its summary, as plain h5py reads them."""
    found = {name: run[name][row] for name in run if name.endswith("_box") or name in SUMMARIES}
    for name in ("map", "standard_error", "domain"):
        if name in run:
            start, stop = run[f"{name}_range"][row]
            box = found["domain_box" if name == "domain" else "map_box"]
            values = run[name][start:stop]
            found[name] = values.reshape(-1, *(box[1] - box[0])) if len(values) else values
    return found


def remove_maps(path, run, *labels):
    """Take maps and their summaries out of a result, as if they had never been finished."""
    with h5py.File(path, "a") as file:
        for group in (file[f"attributions/{run}"], file[f"summaries/{run}"]):
            kept = ~np.isin(group["label"][()], labels)
            for name in list(group):
                if name.endswith("_range"):
                    whole, parts = group[name.removesuffix("_range")], group[name][()][kept]
                    values = [whole[start:stop] for start, stop in parts]
                    _refill(whole, np.concatenate([whole[:0], *values]))
                    stops = np.cumsum([len(one) for one in values], dtype=int)
                    _refill(group[name], np.stack([np.append(0, stops)[:-1], stops], axis=1))
                elif name == "label" or name.endswith("_box") or name in SUMMARIES:
                    _refill(group[name], group[name][()][kept])


def _refill(array, values):
    array.resize(len(values), axis=0)
    array[...] = values


def maps_of(found):
    """Of a snapshot, what belongs to maps."""
    return {name: values for name, values in found.items() if name.startswith("attributions")}


def assert_same(one, other):
    """Fails unless two snapshots are the same, bit for bit."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def write_nifti(path, data, affine=None):
    """The path of a new NIfTI file."""
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path
