"""A result that leads elsewhere, or claims more than it can hold, is refused before it is read."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.store import hdf5
from segxai.store.reader import maps
from segxai.store.runs import run_names
from segxai.store.structure import check_structure
from tests.store.results import MAP, RUN


def link_external(file):
    file["attributions/more"] = h5py.ExternalLink("other.h5", "/instances")


def link_soft(file):
    file["attributions/more"] = h5py.SoftLink("/input")


def link_nowhere(file):
    file["attributions/more"] = h5py.SoftLink("/nowhere")


def link_to_the_root(file):
    file["attributions/run/2"] = file["/"]


def link_twice(file):
    file["attributions/run/2"] = file["attributions/run/map"]


def take_raw_bytes_of_a_file(file):
    del file[MAP]
    kind, size = np.dtype(np.uint8), Path("secret.txt").stat().st_size
    file.create_dataset(MAP, (size,), kind, external=[("secret.txt", 0, size)])


def take_values_of_a_file(file):
    layout = h5py.VirtualLayout((2,), "i8")
    layout[...] = h5py.VirtualSource("other.h5", "instances/label", (2,))
    del file["instances/label"]
    file.create_virtual_dataset("instances/label", layout)


def claim_much(file):
    del file["segmentation/labels"]
    shape = (4000, 4000, 4000)
    file.create_dataset("segmentation/labels", shape, "i4", chunks=(8, 8, 8), compression="gzip")


def claim_much_without_chunks(file):
    del file["segmentation/labels"]
    file.create_dataset("segmentation/labels", (4000, 4000, 4000), "i4")


def claim_a_large_chunk(file):
    del file["instances/voxels"]
    options = {"maxshape": (None,), "chunks": (2**29,), "compression": "gzip"}
    file.create_dataset("instances/voxels", (2,), "i8", **options)


def hold_records(file):
    file["more"] = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])


def hold_references(file):
    file["more"] = np.array([file.ref], dtype=h5py.ref_dtype)


def hold_a_type(file):
    file["more"] = np.dtype("f8")


def hold_nothing(file):
    file["more"] = h5py.Empty("f")


def lie_deep(file):
    file.create_group("/".join("abcdefghij"))


def compress_otherwise(file):
    file.create_dataset("more", data=np.zeros(100), compression="lzf")


def lengthen_an_axis(file):
    """Arrays that are shorter than their axis are filled up when they are read."""
    file["attributions/run/domain_box"].resize(2**20, axis=0)


def lengthen_a_coordinate(file):
    file["summaries/run/label"].resize(3, axis=0)


HOSTILE = {
    link_external: "attributions/more is a link to something else",
    link_soft: "attributions/more is a link to something else",
    link_nowhere: "attributions/more is a link to something else",
    link_to_the_root: "two links lead to /attributions/run/2",
    link_twice: "two links lead to /attributions/run/map",
    take_raw_bytes_of_a_file: "the values of /attributions/run/map are in another file",
    take_values_of_a_file: "the values of /instances/label are in another file",
    claim_much: "/segmentation/labels claims 4000 x 4000 x 4000 values, but 0 bytes are stored",
    claim_much_without_chunks: "/segmentation/labels claims 4000 x 4000 x 4000 values",
    claim_a_large_chunk: "/instances/voxels claims 2 values, but 0 bytes are stored",
    hold_records: "/more holds neither numbers nor words",
    hold_references: "/more holds neither numbers nor words",
    hold_a_type: "/more is neither a group nor an array",
    hold_nothing: "/more has an impossible shape",
    lie_deep: "lies too deep",
    lengthen_an_axis: "(domain_box claims|arrays along /attributions/run/label have)",
    lengthen_a_coordinate: "arrays along /summaries/run/label have different lengths",
    compress_otherwise: "/more is compressed in an unknown way",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_a_hostile_file_is_neither_read_nor_appended_to(path, change):
    with h5py.File(path, "a") as file:
        change(file)
    others = {name: Path(name).read_bytes() for name in ("other.h5", "secret.txt", "r.h5")}
    words = f"r.h5 is not a result as segxai writes it: .*{HOSTILE[change]}"
    with pytest.raises(SegxaiError, match=words) as error:
        hdf5.open_result(path)
    assert "\n" not in str(error.value)
    with pytest.raises(SegxaiError, match=words):
        run_names(path, {"a": 1}, [RUN], append=True)
    assert {name: Path(name).read_bytes() for name in others} == others


def test_words_without_an_end_are_not_read_for_ever(path):
    """HDF5 follows the entries of a heap by their lengths, and an empty one leads to itself."""
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL\x01\0\0\0")
    content[start + 16 : start + 32] = bytes(16)
    path.write_bytes(content)
    words = f"r.h5 is not a result as segxai writes it: the words at byte {start + 16} have no end"
    with pytest.raises(SegxaiError, match=words):
        hdf5.open_result(path)
    with pytest.raises(SegxaiError, match="--overwrite replaces results only"):
        hdf5.check_replaceable(path)


def test_a_good_file_is_read_and_appended_to(path):
    with hdf5.open_result(path) as tree:
        assert list(maps(tree, "run")) == [1]
    assert run_names(path, {"a": 1}, [RUN], append=False) == ("run",)


def test_a_large_array_of_zeros_is_plausible(folder):
    """Nothing is compressed better than zeros: labels of a case with few instances are near it."""
    empty = h5py.File("zeros.h5", "w")
    shape = (400, 400, 200)
    empty.create_dataset("a", data=np.zeros(shape, "i4"), compression="gzip", shuffle=True)

    check_structure(empty)
    empty.close()
