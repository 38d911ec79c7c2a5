"""The gate: what changed more than seeds do, or more than is allowed."""

import numpy as np
import pandas as pd
import pytest

from tests.commandline import segxai
from tests.compare.results import DOMAINS, how, noise, write

NOISY = {"method": "smoothgrad", "noise_levels": [0.1, 0.1]}


def maps(seed, size=0.1, *, turned=()):
    """Maps that seeds change a little; those of some instances have the opposite sign."""

    def compute(label, mask):
        values = noise(99)(label, mask) + size * noise(seed)(label, mask)
        return -values if label in turned else values

    return compute


def gate(*words):
    return segxai("compare", *words, "--out", "out", "--pictures", "0", "--gate")


@pytest.fixture
def old(folder):
    for seed in (0, 1, 2):
        write(f"old{seed}.h5", {"r": (how(seed=seed, **NOISY), maps(seed))}, plugin="old")
    return ["old0.h5", "old1.h5", "old2.h5"]


def test_a_version_that_changed_no_more_than_seeds_do_passes(old):
    write("new.h5", {"r": (how(**NOISY), maps(7, 0.05))}, plugin="new")
    done = gate(*old, "new.h5")
    assert done.status == 0
    assert "gate: 0 of 3 instances changed by more than" in done.out
    verdicts = pd.read_csv("out/gate.csv")
    assert verdicts["old"].unique().tolist() == ["old smoothgrad mean, seed 0"]
    table = pd.read_csv("out/compare.csv").query("metric == 'relative_difference'")
    seeds = table[~table["second"].str.startswith("new")]
    largest = seeds.groupby(["first", "second", "instance"])["value"].max()
    assert len(largest) == 9
    assert verdicts["limit"].unique() == pytest.approx([np.percentile(largest, 99)])


def test_an_instance_that_changed_is_named(old):
    write("new.h5", {"r": (how(**NOISY), maps(7, 0.05, turned=[2]))}, plugin="new")
    done = gate(*old, "new.h5")
    assert (done.status, done.err) == (1, "")
    assert "gate: 1 of 3 instances changed by more than" in done.out
    changed = pd.read_csv("out/gate.csv").query("changed")
    assert changed["instance"].tolist() == [2]
    assert changed["change"].tolist() == pytest.approx([2], abs=0.01)


def test_a_limit_takes_the_place_of_seeds(old):
    write("new.h5", {"r": (how(**NOISY), maps(7, 0.05, turned=[2]))}, plugin="new")
    assert gate(old[0], "new.h5", "--at-most", "2.1").status == 0
    assert gate(old[0], "new.h5", "--at-most", "0.3").status == 1
    error = gate(old[0], "new.h5").error
    assert "has noise or sampled rows, and there is no run of the old version with another" in error
    assert "--at-most 0.3 belongs to --gate: give it, too" in segxai(
        "compare", old[0], "new.h5", "--out", "out", "--at-most", "0.3"
    ).error  # fmt: skip


def test_without_chance_any_change_counts_and_rounding_does_not(folder):
    def slightly(label, mask):
        return noise(1)(label, mask) * np.float32(1 + 1e-6)

    write("old.h5", {"r": (how(), noise(1))}, plugin="old")
    write("same.h5", {"r": (how(), slightly)}, plugin="new")
    write("new.h5", {"r": (how(), maps(1, 1e-3))}, plugin="new")
    assert gate("old.h5", "same.h5").status == 0
    assert gate("old.h5", "new.h5").status == 1


def test_an_instance_without_a_partner_has_changed(folder):
    write("old.h5", {"r": (how(), noise(1))}, plugin="old")
    write("new.h5", {"r": (how(), noise(1))}, plugin="new", domains={1: DOMAINS[1], 2: DOMAINS[2]})
    assert gate("old.h5", "new.h5").status == 1
    changed = pd.read_csv("out/gate.csv").query("changed")
    assert changed["instance"].tolist() == [3]
    assert gate("new.h5", "old.h5").status == 1
    assert pd.read_csv("out/gate.csv").query("changed")["other_instance"].tolist() == [3]


def test_versions_that_cannot_be_judged_are_one_line(folder):
    write("a.h5", {"r": (how(), noise(1))})
    write("b.h5", {"r": (how(method="other"), noise(1))}, plugin="new")
    assert "share no run of the same method and options" in gate("a.h5", "b.h5").error
    write("c.h5", {"r": (how(), noise(1))}, unit="arbitrary")
    write("d.h5", {"r": (how(), noise(1))}, plugin="new", unit="arbitrary")
    assert "are in different or arbitrary units" in gate("c.h5", "d.h5").error
