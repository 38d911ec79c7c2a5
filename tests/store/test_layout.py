"""A file that is not as the schema says is refused with a line that names the first difference."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.report.tables import instance_table
from segxai.store import hdf5
from segxai.store.reader import maps
from segxai.store.schema import attribution_of
from tests.store.results import MAP

ROOT = "attributions/run"


def without(name):
    def change(file):
        del file[name]

    return change


def with_values(name, value):
    def change(file):
        file[name][...] = value

    return change


def with_array(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def with_attribute(owner, name, value):
    def change(file):
        file[owner].attrs[name] = value

    return change


def with_fact(owner, key, **facts):
    def change(file):
        record = json.loads(file[owner].attrs[key]) | facts
        file[owner].attrs[key] = json.dumps(record)

    return change


def with_facts(text):
    def change(file):
        array = file[f"{ROOT}/facts"]
        array[...] = np.frombuffer(text.ljust(len(array)).encode(), np.uint8)

    return change


BROKEN = {
    "no input": (without("input"), "there is no group input"),
    "an array for a run": (
        lambda file: file.create_dataset("attributions/x", data=1.0),
        "attributions holds an array, x",
    ),
    "an array for runs": (with_array("attributions", 1.0), "the root holds an array, attributions"),
    "a group for a map": (
        lambda file: file.create_group("attributions/run/2"),
        "attributions/run holds a group, 2",
    ),
    "no labels": (without("segmentation/labels"), "there is no segmentation/labels"),
    "no case": (lambda file: file["input"].attrs.pop("case"), "input has no case"),
    "words for numbers": (with_array("segmentation/labels", ["a"]), "labels holds .*(object|U)"),
    "numbers for words": (with_array("instances/class", [1, 2]), "instances/class holds int64"),
    "black by voxel": (with_array("input/black", np.zeros((2, 6))), "input/black has the axes"),
    "other axes": (with_array("segmentation/entropy", np.zeros(24)), "entropy has the axes"),
    "a flat affine": (with_values("input/affine", 0), "input/affine is no affine"),
    "NaN in an affine": (with_values("input/affine", np.nan), "input/affine is no affine"),
    "a large source": (
        with_values("input/source_shape", 4000),
        r"input/source_shape is \[4000, 4000, 4000\]",
    ),
    "a box elsewhere": (
        with_values(f"{ROOT}/map_box", [[[3, 1, 1], [7, 4, 3]]]),
        "is not on the grid",
    ),
    "an empty box": (
        with_values(f"{ROOT}/map_box", [[[1, 1, 1], [5, 1, 3]]]),
        "is not on the grid",
    ),
    "a box before 0": (
        with_values(f"{ROOT}/domain_box", -1),
        f"{ROOT}/domain_box is not on the grid",
    ),
    "another box": (
        with_values(f"{ROOT}/map_box", [[[0, 1, 1], [5, 4, 3]]]),
        f"{ROOT}/map_range does not divide map into maps",
    ),
    "a map of another place": (
        with_values(f"{ROOT}/map_range", [[1, 49]]),
        f"{ROOT}/map_range does not divide map into maps",
    ),
    "an error that is cut": (
        with_values(f"{ROOT}/standard_error_range", [[0, 47]]),
        f"{ROOT}/standard_error_range does not divide standard_error into maps",
    ),
    "a domain elsewhere": (
        with_values(f"{ROOT}/domain_range", 0),
        f"{ROOT}/domain_range does not divide domain into maps",
    ),
    "other axes of domains": (
        with_values(f"{ROOT}/domain_axis", ["x", "y", "w"]),
        f"{ROOT}/domain_box has the axes",
    ),
    "other channels": (with_values(f"{ROOT}/channel", "x"), f"{ROOT}/channel differs"),
    "one label twice": (with_values("instances/label", 1), "instances/label has the same value"),
    "a label below 0": (with_values(f"{ROOT}/label", -1), f"{ROOT}/label is below 0"),
    "no unit": (lambda file: file[MAP].attrs.pop("units"), f"{MAP} has no unit"),
    "no JSON": (with_attribute("/", "provenance", "{"), "the record of the case is not JSON"),
    "deep JSON": (with_attribute("/", "provenance", "[" * 10**5), "of the case is not JSON"),
    "a list": (with_attribute("/", "provenance", "[1]"), "the record of the case is not a table"),
    "a number for a name": (
        with_fact("attributions/run", "provenance", method=3),
        "the record of attributions/run has no usable 'method'",
    ),
    "a word for a number": (
        with_facts('{"rows": "many", "estimate": 1 }'),
        "has no usable 'estimate'",
    ),
    "no estimate": (with_facts("{}"), f"map 1 of {ROOT} has no usable 'estimate'"),
    "facts that are no JSON": (with_facts("{"), f"the record of map 1 of {ROOT} is not JSON"),
    "a table for summaries": (
        with_array("summaries/run/peak", np.zeros(3)),
        "arrays along /summaries/run/label have different lengths",
    ),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_as_the_schema_says_is_named(path, change, words):
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(SegxaiError, match=f"r.h5 is not a result .*{words}"):
        hdf5.open_result(path)


def test_units_that_look_like_dates_stay_units(path):
    with h5py.File(path, "a") as file:
        file[MAP].attrs["units"] = "days since 2000-01-01"
    with hdf5.open_result(path) as tree:
        assert attribution_of(maps(tree, "run")[1]).values.dtype == np.float32


def test_damaged_values_are_one_line_where_they_are_read(path):
    with h5py.File(path, "r") as file:
        chunk = file[MAP].id.get_chunk_info(0)
        start, size = chunk.byte_offset, chunk.size
    content = bytearray(Path(path).read_bytes())
    content[start : start + size] = bytes(size)
    Path(path).write_bytes(content)
    with (
        hdf5.open_result(path) as tree,
        pytest.raises(SegxaiError, match=r"r.h5 is not a result .*: it cannot be read \("),
    ):
        attribution_of(maps(tree, "run")[1])


def test_a_summary_without_a_map_is_one_line(path):
    with h5py.File(path, "a") as file:
        file["summaries/run/label"][...] = 2
    with (
        hdf5.open_result(path) as tree,
        pytest.raises(SegxaiError, match=r"r.h5 is not .*: run run has no map of instance 2"),
    ):
        instance_table(tree, "run")
