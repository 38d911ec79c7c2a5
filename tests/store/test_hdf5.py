"""What is added to a result file is what is read, and it is read lazily."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from segxai.errors import SegxaiError
from segxai.store import hdf5
from segxai.store.atomic_file import replacing, sole_writer, state_file
from segxai.store.reader import maps
from segxai.store.schema import attribution_of, group, input_dataset
from segxai.store.writer import adding_maps
from tests.store.results import SHAPE, add, attribution, case, create, instance


@pytest.fixture
def path(folder):
    create(Path("r.h5"))
    hdf5.start_run(Path("r.h5"), "run", {"method": "m", "started": "1"})
    return Path("r.h5")


@pytest.mark.parametrize("channels", [True, False])
def test_what_is_added_is_what_is_read(path, channels):
    stored = attribution(2, channels=channels)
    add(path, stored, instance(2, 2), case())
    with hdf5.open_result(path) as tree:
        read = attribution_of(maps(tree, "run")[2])
        domain = maps(tree, "run")[2]["domain"].values
    np.testing.assert_array_equal(read.values, stored.values)
    np.testing.assert_array_equal(read.standard_error, stored.standard_error)
    np.testing.assert_array_equal(domain, instance(2, 2).mask(SHAPE)[stored.box.index])
    assert (read.label, read.offset, read.facts) == (2, stored.offset, stored.facts)


def test_a_unit_is_written_in_the_words_of_the_case(path):
    told = {"one": "score per input", "two": "score"}
    shown = replace(case(), input_unit="grey value")
    for name, unit in told.items():
        hdf5.start_run(path, name, {"method": "m", "started": "1"})
        with adding_maps(path, shown) as writer:
            writer.add(name, replace(attribution(), unit=unit), instance())
    with hdf5.open_result(path) as tree:
        read = {name: attribution_of(maps(tree, name)[1]).unit for name in told}
    assert read == {"one": "score per grey value", "two": "score"}


def test_what_black_became_is_in_the_file_only_where_it_is_known(path):
    with hdf5.open_result(path) as tree:
        black = group(tree, "input")["black"]
        assert dict(zip(black.channel.values, black.values, strict=True)) == {
            "flair": 0,
            "mprage": -2.5,
        }
        assert black.attrs["units"] == "input unit"
    assert "black" not in input_dataset(replace(case(), black=None))


def test_what_a_file_holds_is_listed(path):
    assert hdf5.finished(path, "run") == set()
    assert hdf5.finished(path, "another") == set()
    add(path, attribution(2), instance(2, 2), case())
    assert hdf5.finished(path, "run") == {2}
    assert hdf5.instance_labels(path) == {1, 2}
    assert hdf5.read_provenance(path) == {"a": 1}
    assert hdf5.runs(path) == {"run": {"method": "m", "started": "1"}}


def test_summaries_are_those_of_their_labels_whatever_the_order_of_maps(path):
    for label in (2, 1):
        add(path, attribution(label, seed=label), instance(label, label), case())
    with hdf5.open_result(path) as tree:
        table = group(tree, "summaries/run").load()
    for label in (1, 2):
        values = attribution(label, seed=label).values
        for channel, name in enumerate(("flair", "mprage")):
            row = table.sel(label=label, channel=name)
            assert float(row.peak) == values[channel].max()
            assert float(row.trough) == values[channel].min()


def test_a_map_with_nan_is_kept_and_shows_in_its_summary(path):
    values = attribution().values.copy()
    values[0, 0, 0, 0] = np.nan
    add(path, replace(attribution(), values=values), instance(), case())
    with hdf5.open_result(path) as tree:
        table = group(tree, "summaries/run").load()
    assert np.isnan(table.peak.sel(label=1, channel="flair"))
    assert not np.isnan(table.peak.sel(label=1, channel="mprage"))


def test_a_case_without_instances_can_be_stored(folder):
    create(Path("r.h5"), instances=0)
    assert hdf5.instance_labels(Path("r.h5")) == set()
    with hdf5.open_result("r.h5") as tree:
        assert group(tree, "instances").sizes["label"] == 0


def test_xarray_reads_the_file_lazily(path):
    add(path, attribution(), instance(), case())
    with hdf5.open_result(path) as tree:
        for node in tree.subtree:
            for name, variable in node.to_dataset().data_vars.items():
                is_small = variable.size <= 16 or name == "facts"  # checked when the file is opened
                assert is_small or not variable.variable._in_memory, f"{node.path}/{name}"
        one = maps(tree, "run")[1]["map"]
        assert not one.variable._in_memory
        assert float(one[0, 0, 0, 0]) == attribution().values[0, 0, 0, 0]


def test_plain_h5py_reads_parts_of_a_map(path):
    add(path, attribution(), instance(), case())
    with h5py.File(path, "r") as file:
        run = file["attributions/run"]
        assert run["map"].chunks is not None
        start, _ = run["map_range"][0]
        first = attribution().values.ravel()[:7]
        np.testing.assert_array_equal(run["map"][start : start + 7], first)


def test_open_datatree_needs_nothing_of_segxai(path):
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree.children) == {"input", "segmentation", "instances", "attributions"}


# ---------------------------------------------------------------------------- links, permissions


def mode(path):
    return Path(path).stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_result_is_created_with_the_permissions_of_the_umask(folder, umask):
    before = os.umask(umask)
    try:
        create(Path("r.h5"))
    finally:
        os.umask(before)
    assert mode("r.h5") == 0o666 & ~umask


def test_a_result_keeps_its_permissions(path):
    path.chmod(0o600)
    add(path, attribution(), instance(), case())
    assert mode(path) == 0o600
    with replacing(state_file(path), copy=False) as draft:
        assert mode(draft) == 0o600
    assert mode(state_file(path)) == 0o600
    create(path)
    assert mode(path) == 0o600


@pytest.mark.parametrize("name", [".draft-r.h5", ".r.h5.lock"])
@pytest.mark.parametrize("target", ["secret", "nowhere"])
def test_links_in_the_place_of_our_own_files_are_not_followed(path, name, target):
    Path("secret").write_text("secret")
    Path(name).symlink_to(target)
    if name.endswith("lock"):
        words = r"\.r\.h5\.lock is a symbolic link, which is not followed: remove it"
        with pytest.raises(SegxaiError, match=words), sole_writer(path):
            pass
    add(path, attribution(), instance(), case())
    assert Path("secret").read_text() == "secret"
    assert not Path("nowhere").exists()
