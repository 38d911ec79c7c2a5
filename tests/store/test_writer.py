"""A finished map survives whatever happens next: it is in the file, or in the journal beside it."""

import json
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.store import hdf5
from segxai.store.atomic_file import journal_file
from segxai.store.journal import FRAME
from segxai.store.maps import FinishedMap
from segxai.store.reader import maps
from segxai.store.refusal import DamageError
from segxai.store.schema import attribution_of
from segxai.store.writer import MapWriter, adding_maps, journal_of, recover
from tests.commandline import assert_same, snapshot
from tests.store.results import attribution, case, create, instance

MAPS = [attribution(label, seed=label, channels=False) for label in (5, 2, 4, 3)]
MAPS[1] = replace(MAPS[1], standard_error=None)


@pytest.fixture
def path(folder):
    create(Path("r.h5"), instances=4)
    hdf5.start_run(Path("r.h5"), "run", {"method": "m", "started": "1"})
    return Path("r.h5")


@pytest.fixture
def killed(path):
    """A result whose writer died with all maps in the journal."""
    writer = MapWriter(path, case())
    writer._fold_from = inf
    for one in MAPS:
        writer.add("run", one, instance(one.label))
    return path


def labels_in(path):
    with hdf5.open_result(path) as tree:
        return set(maps(tree, "run"))


def test_a_map_is_in_the_file_at_once_and_the_next_ones_at_the_end(path):
    with adding_maps(path, case()) as writer:
        writer.add("run", MAPS[0], instance(5))
        assert labels_in(path) == {5}
        writer._fold_from = inf
        writer.add("run", MAPS[1], instance(2))
        assert labels_in(path) == {5}
        assert [one.label for _, one in journal_of(path).read()] == [2]
    assert labels_in(path) == {2, 5}
    assert not journal_file(path).exists()


def test_maps_are_in_the_file_after_an_interruption(path):
    with suppress(KeyboardInterrupt), adding_maps(path, case()) as writer:
        writer._fold_from = inf
        writer.add("run", MAPS[0], instance(5))
        raise KeyboardInterrupt
    assert labels_in(path) == {5}


def test_what_is_recovered_is_what_an_unbroken_run_writes(killed):
    assert labels_in(killed) == set()
    recover(killed)
    assert not journal_file(killed).exists()
    create(Path("whole.h5"), instances=4)
    hdf5.start_run(Path("whole.h5"), "run", {"method": "m", "started": "1"})
    with adding_maps(Path("whole.h5"), case()) as writer:
        for one in MAPS:
            writer.add("run", one, instance(one.label))
    assert_same(snapshot(killed), snapshot("whole.h5"))
    with hdf5.open_result(killed) as tree:
        stored = maps(tree, "run")
        assert list(stored) == [2, 3, 4, 5]
        for one in MAPS:
            read = attribution_of(stored[one.label])
            np.testing.assert_array_equal(read.values, one.values)
            assert (read.standard_error is None) == (one.standard_error is None)
            assert stored.facts(one.label) == one.facts


def test_a_kill_between_the_file_and_the_journal_stores_no_map_twice(killed):
    kept = journal_file(killed).read_bytes()
    recover(killed)
    before = snapshot(killed)
    journal_file(killed).write_bytes(kept)
    recover(killed)
    assert_same(snapshot(killed), before)


def test_a_record_that_was_cut_off_is_ignored_and_those_before_it_are_kept(killed):
    whole = journal_file(killed).read_bytes()
    ends = [0]
    while ends[-1] < len(whole):
        ends.append(ends[-1] + FRAME.size + FRAME.unpack_from(whole, ends[-1])[0])
    assert len(ends) == 5
    for length in range(0, len(whole) + 1, 7):
        journal_file(killed).write_bytes(whole[:length])
        complete = sum(end <= length for end in ends) - 1
        found = [one.label for _, one in journal_of(killed).read()]
        assert found == [5, 2, 4, 3][:complete]


def test_a_record_with_a_flipped_bit_is_ignored_with_all_that_follow(killed):
    content = bytearray(journal_file(killed).read_bytes())
    content[FRAME.size + 10 + FRAME.unpack_from(content)[0] + FRAME.size] ^= 1
    journal_file(killed).write_bytes(content)
    assert [one.label for _, one in journal_of(killed).read()] == [5]


def test_the_journal_of_another_result_of_this_name_is_removed(killed):
    hdf5.create(killed, *made_again(killed))
    hdf5.start_run(killed, "run", {"method": "m", "started": "1"})
    recover(killed)
    assert labels_in(killed) == set()
    assert not journal_file(killed).exists()


def made_again(path):
    from segxai.segment.segmentation import Segmentation

    logits = np.zeros((2, 6, 5, 4), dtype=np.float32)
    return case(), Segmentation.of(logits, ("rest", "lesion")), [instance()], {"a": 2}


def finished(**changes):
    return replace(FinishedMap.of(attribution(), instance(), case()), **changes)


FACTS = json.dumps({"estimate": "no"})
WRONG = {
    "a run that there is not": ("other", finished(), "there is no run other"),
    "a box elsewhere": (
        "run",
        finished(box=Box((4, 1, 1), (4, 3, 2))),
        "map_box is not on the grid",
    ),
    "other channels": ("run", finished(channels=("a", "b")), "channel differs from input/channel"),
    "other axes": ("run", finished(axes=("x", "y", "w")), "map_box has the axes"),
    "facts of another kind": ("run", finished(facts=FACTS), "has no usable 'estimate'"),
    "facts that are no JSON": ("run", finished(facts="{"), "is not JSON"),
    "a label below 0": ("run", finished(label=-1), "label is below 0"),
    "too few values": ("run", finished(values=np.zeros(3, "f4")), "not as many values as its box"),
    "an empty box": ("run", finished(box=Box((1, 1, 1), (4, 3, 0))), "the box of a map is none"),
}


@pytest.mark.parametrize(("run", "one", "words"), WRONG.values(), ids=WRONG)
def test_a_record_that_does_not_fit_is_refused_and_the_result_stays(path, run, one, words):
    before = path.read_bytes()
    journal_of(path).add(run, one)
    with pytest.raises(
        SegxaiError, match=rf"\.r\.h5\.journal is not as segxai .*{words}.*remove it"
    ):
        recover(path)
    assert path.read_bytes() == before


def test_a_link_in_the_place_of_the_journal_is_not_followed(path):
    Path("secret").write_text("secret")
    journal_file(path).symlink_to("secret")
    with pytest.raises(SegxaiError, match="is a symbolic link, which is not followed"):
        recover(path)
    with pytest.raises(SegxaiError, match="cannot write r.h5"):
        journal_of(path).add("run", finished())
    assert Path("secret").read_text() == "secret"


def test_the_journal_has_the_permissions_of_the_result(path):
    path.chmod(0o640)
    journal_of(path).add("run", finished())
    assert journal_file(path).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "change", [{"unit": "grey"}, {"channels": (), "values": np.zeros((4, 3, 2))}]
)
def test_maps_of_one_run_are_of_one_kind(path, change):
    hdf5.add(path, [("run", finished())])
    with pytest.raises(DamageError, match="of (the|other maps of the) run"):
        hdf5.add(path, [("run", finished(label=2, **change))])
