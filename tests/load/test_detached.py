"""Headers of strangers: their voxels come from their own folder, or from nowhere."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.load.detached import detached_files
from segxai.load.volumes import file_sha256, load_volume
from tests.commandline import segxai

META = "ObjectType = Image\nNDims = 3\nDimSize = 10 10 10\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 10 10\nencoding: raw\n"
SECRET, FILE = bytes(range(250)) * 4, "../secret"
HEADERS = {
    "meta": ("a.mhd", f"{META}ElementDataFile = {FILE}\n"),
    "meta, other suffix": ("a.mha", f"{META}ElementDataFile = {FILE}\n"),
    "meta, colon": ("a.mhd", f"{META}  ElementDataFile: {FILE}\n"),
    "meta, list": ("a.mhd", f"{META}ElementDataFile = LIST\n{FILE}\n"),
    "meta, list of slices": ("a.mhd", f"{META}ElementDataFile = LIST 3\n\n{FILE}\n"),
    "meta, the first counts": ("a.mhd", f"{META}ElementDataFile={FILE}\nElementDataFile=a.raw\n"),
    "meta, a decoy": ("a.mhd", f"{META}Comment = ElementDataFile = LOCAL\nElementDataFile={FILE}"),
    "meta, link": ("a.mhd", f"{META}ElementDataFile = link.raw\n"),
    "nrrd": ("a.nhdr", f"{NRRD}data file: {FILE}\n"),
    "nrrd, other suffix": ("a.nrrd", f"{NRRD}data file: {FILE}\n"),
    "nrrd, capitals": ("a.nhdr", f"{NRRD}DataFile: {FILE}\n"),
    "nrrd, list": ("a.nhdr", f"{NRRD}data file: LIST\n" + f"{FILE}\n" * 10),
    "nrrd, link": ("a.nhdr", f"{NRRD}data file: link.raw\n"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with voxels, and a link to a secret outside of it."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "received/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "received")
    for name in ("a.raw", "below/b.raw"):
        Path(name).write_bytes(SECRET)
    Path("link.raw").symlink_to(FILE)
    return tmp_path


@pytest.mark.parametrize(("name", "text"), HEADERS.values(), ids=HEADERS)
def test_voxels_outside_of_the_headers_folder_are_refused(folder, name, text):
    pytest.importorskip("SimpleITK")
    named = "link.raw" if "link" in text else FILE
    for spelt in (named, str(folder / "secret")):
        Path(name).write_text(text.replace(named, spelt))
        for read in (lambda path: load_volume(path, "flair"), file_sha256):
            with pytest.raises(SegxaiError, match=f"^{name} .*not in its folder"):
                read(Path(name))


@pytest.mark.parametrize("voxels", ["a.raw", "./a.raw", "below/b.raw", "../received/a.raw"])
@pytest.mark.parametrize(("name", "text"), [HEADERS["meta"], HEADERS["nrrd"]], ids=["meta", "nrrd"])
def test_voxels_beside_the_header_are_read(folder, name, text, voxels):
    pytest.importorskip("SimpleITK")
    Path(name).write_text(text.replace(FILE, voxels))
    found = load_volume(name, "flair")
    np.testing.assert_array_equal(found.data.flatten(order="F"), list(SECRET))
    assert file_sha256(name) == found.source.sha256 != file_sha256("a.raw")


def test_voxels_in_the_header_are_no_other_file(folder):
    meta = f"{META}ElementDataFile = LOCAL\n".encode() + b"ElementDataFile = ../secret\n" * 99
    Path("a.mha").write_bytes(meta)
    nrrd = f"{NRRD}# data file: ../secret\n\ndata file: ../secret\n".encode() + SECRET
    Path("a.nrrd").write_bytes(nrrd)
    assert detached_files(Path("a.mha")) == detached_files(Path("a.nrrd")) == []


def test_names_by_a_pattern_are_refused(folder):
    Path("a.mhd").write_text(f"{META}ElementDataFile = ../s%d.raw 0 9 1\n")
    with pytest.raises(SegxaiError, match=r"'../s%d.raw 0 9 1'"):
        detached_files(Path("a.mhd"))


def test_pairs_of_analyze_are_not_linked_out_of_their_folder(folder):
    image = nib.Nifti1Pair(np.ones((4, 5, 6), dtype=np.float32), np.eye(4))
    nib.save(image, "a.hdr")
    assert load_volume("a.hdr", "flair").data.shape == (4, 5, 6)
    Path("a.img").rename("../a.img")
    Path("a.img").symlink_to("../a.img")
    with pytest.raises(SegxaiError, match=r"a.hdr .*not in its f"):
        load_volume("a.hdr", "flair")


def test_formats_in_hdf5_are_refused(folder):
    """Their arrays may lie in any file."""
    h5py = pytest.importorskip("h5py")
    with h5py.File("a.mnc", "w") as file:
        file.create_group("minc-2.0")
    file = "a.mnc"
    with pytest.raises(SegxaiError, match=r"a\.mnc"):
        load_volume(file, "flair")
    Path("a.mnc").rename("a.mha")
    with pytest.raises(SegxaiError, match=r"a\.mha cannot be read"):
        load_volume("a.mha", "flair")


def test_the_shell_says_it_in_one_line(folder):
    name, text = HEADERS["meta"]
    Path(name).write_text(text)
    done = segxai("run", "--plugin", "ms_lesion", name, name)
    assert "not in its folder" in done.error
