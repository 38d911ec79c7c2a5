"""Runs have names that tell them apart, and twins are those that differ in the seed alone."""

from pathlib import Path

import pytest

from segxai.compare.runs import ComparedRun, chosen, named
from segxai.errors import SegxaiError
from tests.compare.results import how


def run(number, name="gradient-mean", *, plugin="net", place=None, weights="w", **settings):
    case = {"plugin": {"name": plugin}, "weights": {"name": weights, "sha256": weights}}
    return ComparedRun((number, name), Path(place or f"{number}.h5"), case, how(**settings))


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ([run(0), run(1, plugin="swin")], ["net gradient mean", "swin gradient mean"]),
        (
            [run(0, score="probability"), run(0, "cam", method="cam", aggregator=None)],
            ["net gradient mean probability", "net cam"],
        ),
        (
            [run(0, seed=0), run(1, seed=3), run(2, plugin="swin", seed=3)],
            ["net gradient mean, seed 0", "net gradient mean, seed 3", "swin gradient mean"],
        ),
        (
            [run(0, place="old.h5"), run(1, place="new.h5")],
            ["net gradient mean, old", "net gradient mean, new"],
        ),
        (
            [run(0, "gradient-mean"), run(0, "gradient-mean-2", crop_mm=5)],
            ["net gradient mean, gradient-mean", "net gradient mean, gradient-mean-2"],
        ),
        (
            [run(0, place="a/r.h5"), run(1, place="b/r.h5")],
            ["net gradient mean, #1", "net gradient mean, #2"],
        ),
        ([run(0), run(1, plugin="a\nb")], ["net gradient mean", r"a\nb gradient mean"]),
    ],
)
def test_names_have_what_tells_runs_apart(runs, names):
    assert list(named(runs).values()) == names


def test_names_are_told_apart_step_by_step():
    runs = [
        run(number, place=f"{place}.h5", seed=seed)
        for number, (place, seed) in enumerate([("a", 0), ("b", 0), ("a", 1), ("b", 1)])
    ]
    expected = [f"net gradient mean, seed {seed}, {place}" for seed in (0, 1) for place in "ab"]
    assert list(named(runs).values()) == expected


def test_twins_differ_in_the_seed_alone():
    first = run(0, seed=0)
    assert first.is_twin_of(run(1, seed=1, started="later", labels=[1]))
    for other in (
        run(1, seed=0),
        run(1, seed=1, crop_mm=5),
        run(1, seed=1, aggregator="signed_max"),
        run(1, seed=1, weights="other"),
        run(1, seed=1, plugin="swin"),
    ):
        assert not first.is_twin_of(other)


def test_noise_and_sampled_rows_are_chance():
    assert run(0).is_deterministic
    assert not run(0, noise_levels=[0.1]).is_deterministic
    assert not run(0, rows=4).is_deterministic
    assert not run(0, method="of_a_stranger", random=True).is_deterministic


def test_runs_are_chosen_by_name():
    runs = [run(0, "a"), run(0, "b"), run(1, "a")]
    assert chosen(runs, ()) == runs
    assert chosen(runs, ["a"]) == [runs[0], runs[2]]
    with pytest.raises(SegxaiError, match=r"unknown run 'c'; known: a, b"):
        chosen(runs, ["c"])
    with pytest.raises(SegxaiError, match=r"needs two runs, and there is 1 \(b\); give another"):
        chosen(runs, ["b"])
