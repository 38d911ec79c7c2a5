"""Results compared: matched instances, bounds, names, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segxai.compare.comparison import compare, find_runs
from segxai.compare.measures import MEASURES
from segxai.compare.places import patients_of
from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.types import Source
from tests.compare.results import (
    CHANNELS,
    CORNERS,
    DOMAINS,
    SHAPE,
    block,
    case_of,
    how,
    noise,
    write,
)

SIMILAR = [one.name for one in MEASURES if one.of_itself is not None]


def compared(*paths, **options):
    return compare(find_runs([Path(path) for path in paths], **options))


def values(table, metric, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table[table["metric"] == metric]["value"].tolist()


def pairs(table):
    return table[table["second"] != ""]


def shapes(seed, common=0.0):
    """Maps that share a part for each instance, and have noise of their own."""
    own, shared = noise(seed), noise(99)

    def maps(label, mask):
        return own(label, mask) + common * shared(label, mask)

    return maps


# ------------------------------------------------------------------------------ what comes out


def test_a_file_compared_with_itself(folder):
    write("a.h5", {"r": (how(), noise(1))})
    found = compared("a.h5", "a.h5")
    table = pairs(found.table)
    for measure in MEASURES:
        expected = [measure.of_itself or np.nan] * 6
        if measure.of_itself == 0:
            expected = [0.0] * 6
        assert values(table, measure.name) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert sorted(set(table["channel"])) == sorted(CHANNELS)
    assert table["instance"].tolist() == table["other_instance"].tolist()


def test_independent_maps_lie_on_the_floor_and_deterministic_ones_have_a_ceiling(folder):
    write("a.h5", {"r": (how(), shapes(1))})
    write("b.h5", {"r": (how(), shapes(2))}, plugin="other")
    write("c.h5", {"r": (how(), shapes(3, common=2))})
    write("d.h5", {"r": (how(), shapes(4, common=2))}, plugin="other")
    apart, alike = (pairs(compared(*two).table) for two in (("a.h5", "b.h5"), ("c.h5", "d.h5")))
    for table in (apart, alike):
        ranks = table[table["metric"] == "spearman"]
        assert ranks["floor"].abs().max() < 0.02
        assert set(table[table["metric"].isin(SIMILAR)]["ceiling"]) == {0.0, 1.0}
        assert set(ranks["ceiling"]) == {1.0}
    assert max(map(abs, values(apart, "spearman"))) < 0.05
    # Both are z + 2 s with a common s: the correlation is 4 / 5.
    assert values(alike, "cosine") == pytest.approx([0.8] * 6, abs=0.02)


def test_the_floor_is_the_mean_over_moved_maps_of_other_instances(folder):
    """Each map is the same bump around its instance, so that moved maps are equal."""
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)

    def bump(label, mask):
        centre = np.argwhere(mask).mean(axis=0)
        one = np.exp(-((voxels - centre) ** 2).sum(axis=-1) / 8).astype(np.float32)
        return np.stack([one, -one])

    write("a.h5", {"r": (how(), bump)})
    table = pairs(compared("a.h5", "a.h5").table)
    for measure in MEASURES:
        if measure.of_itself is not None:
            rows = table[table["metric"] == measure.name]
            assert rows["floor"].tolist() == pytest.approx([measure.of_itself] * 6, abs=1e-6)


def test_a_single_instance_has_no_floor_and_that_is_said(folder):
    write("a.h5", {"r": (how(), noise(1))}, domains={1: DOMAINS[1]})
    write("b.h5", {"r": (how(seed=1), noise(2))}, domains={1: DOMAINS[1]})
    found = compared("a.h5", "b.h5")
    assert pairs(found.table)["floor"].isna().all()
    assert any("none for 1 of 1 pairs of runs, where a case has a single" in x for x in found.notes)


def test_two_seeds_are_the_ceiling(folder):
    smooth = {"noise_levels": [0.1, 0.1], "method": "smoothgrad"}
    write("a.h5", {"r": (how(seed=0, **smooth), shapes(1, common=1))})
    write("b.h5", {"r": (how(seed=1, **smooth), shapes(2, common=1))})
    write("c.h5", {"r": (how(), shapes(3, common=1))}, plugin="other")
    table = pairs(compared("a.h5", "b.h5", "c.h5").table)
    twins = table[table["second"].str.endswith("seed 1")]
    bounded = twins[twins["metric"].isin(SIMILAR)]
    assert bounded["value"].tolist() == bounded["ceiling"].tolist()
    other = table[(table["second"] == "other gradient mean") & table["metric"].isin(SIMILAR)]
    reached = other[other["first"].str.endswith("seed 0")]  # the other run is deterministic
    assert reached["ceiling"].tolist() == bounded["value"].tolist()


def test_without_a_twin_there_is_no_ceiling_and_that_is_said(folder):
    write("a.h5", {"r": (how(noise_levels=[0.1]), noise(1))})
    write("b.h5", {"r": (how(), noise(2))}, plugin="other")
    found = compared("a.h5", "b.h5")
    assert pairs(found.table)["ceiling"].isna().all()
    assert any("none for 1 of 1 pairs of runs: repeat" in note for note in found.notes)


def test_errors_explain_the_difference_of_two_seeds(folder):
    def maps(seed, error):
        def one(label, mask):
            own, shared = noise(seed)(label, mask), noise(99)(label, mask)
            return shared + error * own, np.full_like(own, error)

        return one

    write("a.h5", {"r": (how(seed=0), maps(1, 0.3))})
    write("b.h5", {"r": (how(seed=1), maps(2, 0.4))})
    found = values(compared("a.h5", "b.h5").table, "explained_by_error")
    assert found == pytest.approx([1.0] * 6, abs=0.05)


def test_a_map_without_channels_is_compared_with_the_sum_of_magnitudes(folder):
    write("a.h5", {"r": (how(), noise(1))})

    def heat(label, mask):
        return abs(noise(1)(label, mask)).sum(axis=0)

    write("b.h5", {"cam": (how(method="cam", aggregator=None), heat)}, unit="arbitrary")
    table = pairs(compared("a.h5", "b.h5").table)
    assert set(table["channel"]) == {"heat"}
    assert values(table, "cosine") == pytest.approx([1.0] * 3)
    assert {"sign_agreement", "ssim", "relative_difference"}.isdisjoint(table["metric"])


def test_values_are_compared_in_one_unit_alone(folder):
    write("a.h5", {"r": (how(), noise(1))})
    write("b.h5", {"r": (how(score="probability"), noise(1))})
    found = compared("a.h5", "b.h5")
    assert "ssim" not in set(found.table["metric"])
    assert any("SSIM and relative difference compare values" in note for note in found.notes)
    assert "ssim" in set(compared("a.h5", "a.h5").table["metric"])


def test_a_class_level_map_is_compared_around_each_instance(folder):
    write("a.h5", {"r": (how(), noise(1))})
    whole = {0: np.logical_or.reduce(list(DOMAINS.values()))}
    everything = noise(7)(0, whole[0])
    write("b.h5", {"c": (how(method="class"), lambda label, mask: everything)}, domains=whole)
    for places in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        table = pairs(compared(*places).table)
        own = "instance" if places[0] == "a.h5" else "other_instance"
        assert sorted(set(table[own])) == [1, 2, 3]
        assert len(values(table, "spearman")) == 6


# ------------------------------------------------------------------------------ what is matched


def test_instances_are_matched_by_overlap_and_the_rest_is_named(folder):
    write("a.h5", {"r": (how(), noise(1))})
    moved = {
        7: block(np.add(CORNERS[1], (1, 0, 0))),
        8: DOMAINS[1],
        9: block((2, 22, 3)),
    }
    write("b.h5", {"r": (how(), noise(2))}, domains=moved, plugin="other")
    found = compared("a.h5", "b.h5")
    table = pairs(found.table)
    matches = set(zip(table["instance"], table["other_instance"], strict=True))
    assert matches == {(1, 8), (2, 7)}
    assert "net gradient mean: instances 3 have no partner in other gradient mean" in found.notes
    assert "other gradient mean: instances 9 have no partner in net gradient mean" in found.notes


def test_a_crop_of_the_grid_and_another_order_of_channels_change_nothing(folder):
    write("a.h5", {"r": (how(), noise(1))})
    start, shape = (2, 3, 1), (28, 24, 25)
    inside = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    affine = np.eye(4)
    affine[:3, 3] = start
    case = case_of(shape, affine=affine, channels=CHANNELS[::-1])

    def cropped(label, mask):
        return np.ascontiguousarray(noise(1)(label, DOMAINS[label])[::-1][(..., *inside)])

    domains = {label: mask[inside] for label, mask in DOMAINS.items()}
    write("b.h5", {"r": (how(), cropped)}, case=case, domains=domains, plugin="other")
    for places in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        table = pairs(compared(*places).table)
        for measure in MEASURES:
            if measure.of_itself is not None:
                found = values(table, measure.name)
                assert found == pytest.approx([measure.of_itself] * 6, abs=1e-9)


def test_instances_of_a_picture_are_compared_in_pixels(folder):
    shape = (40, 50)
    domains = {1: block((10, 10), shape), 2: block((25, 30), shape)}
    for name, seed in (("a", 1), ("b", 2)):
        write(
            f"{name}.h5", {"r": (how(seed=seed), noise(seed))}, case=case_of(shape), domains=domains
        )
    table = compared("a.h5", "b.h5").table
    assert set(table[table["metric"] == "peak_distance"]["unit"]) == {"px"}


# -------------------------------------------------------------------------------------- cohorts


def cohort(name, cases, draw, **more):
    for number, case in enumerate(cases):
        maps = shapes(100 * draw + number, common=1)
        few = {label: mask for label, mask in DOMAINS.items() if label < 3}
        write(f"{name}/{case}.h5", {"r": (how(**more), maps)}, domains=few)


def test_cases_of_two_folders_are_compared_by_name(folder):
    cohort("one", ["sub-1_ses-a", "sub-1_ses-b", "x"], 1)
    cohort("two", ["sub-1_ses-b", "sub-1_ses-a"], 2, score="probability")
    found = compared("one", "two")
    known = set(zip(pairs(found.table)["case"], pairs(found.table)["patient"], strict=True))
    assert known == {("sub-1_ses-a", "sub-1"), ("sub-1_ses-b", "sub-1")}
    assert "case x is left out: it has a single run" in found.notes
    assert "no intervals: 2 patients, and at least 10 are needed" in found.notes
    assert found.summary["low"].isna().all()


def test_a_table_tells_whose_a_case_is(folder):
    cohort("one", "ab", 1)
    cohort("two", "ab", 2, seed=5)
    Path("patients.csv").write_text("case,patient\na,p\nb,p\n")
    found = find_runs([Path("one"), Path("two")], patients=Path("patients.csv"))
    assert found.patients == {"a": "p", "b": "p"}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("case,who\na,p\n", r"there is no column patient; it needs case and patient"),
        ("case,patient\na,p\n", r"there is no patient for the case b"),
        ("case,patient\na,p\na,q\nb,p\n", r"the case a is there twice"),
        ("", r"the table cannot be read \("),
        (None, r"the table cannot be read \("),
    ],
)
def test_a_table_of_patients_that_does_not_fit(folder, content, error):
    if content is not None:
        Path("patients.csv").write_text(content)
    with pytest.raises(SegxaiError, match=f"^patients=patients.csv: {error}"):
        patients_of("ab", Path("patients.csv"))


# ------------------------------------------------------------------------------ what is refused


def test_what_cannot_be_compared_is_one_line(folder):
    write("a.h5", {"r": (how(), noise(1))})
    others = {
        "image": case_of(seed=1, source="b"),
        "unnamed": case_of(seed=1, source=None),
        "shape": case_of((30, 28, 25), affine=np.diag([1, 1, 1.2, 1.0])),
        "plane": case_of((30, 28)),
        "channels": case_of(channels=("flair", "t2")),
    }
    errors = {
        "image": r"image.h5 explains another image than a.h5: f.nii.gz \(sha256 bbbbbbbb...\)",
        "unnamed": r"unnamed.h5 explains another image than a.h5: an image without a file",
        "shape": r"a.h5 is 30 x 28 x 26 voxels of 1 mm, RAS, but shape.h5 is 30 x 28 x 25 .*: maps",
        "plane": r"maps are compared voxel by voxel, on one grid or on crops of it",
        "channels": r"a.h5 has the channels flair, mprage, but channels.h5 has flair, t2",
    }
    for name, case in others.items():
        domains = {1: block(CORNERS[0][: len(case.grid.shape)], case.grid.shape)}
        write(f"{name}.h5", {"r": (how(), noise(1))}, case=case, domains=domains)
        with pytest.raises(SegxaiError, match=errors[name]) as caught:
            compared("a.h5", f"{name}.h5")
        assert "\n" not in str(caught.value)


def test_of_several_files_one_that_differs_is_named(folder):
    for name, digit in (("a", "a"), ("b", "b")):
        flair, other = (Source("flair", "f.nii.gz", digit * 64), Source("t", "t.nii.gz", "9" * 64))
        case = replace(case_of(seed=ord(digit)), sources=(flair, other))
        write(f"{name}.h5", {"r": (how(), noise(1))}, case=case)
    with pytest.raises(SegxaiError, match=r"f.nii.gz \(sha256 bbb.* instead of f.nii.gz .*aaa"):
        compared("a.h5", "b.h5")


def test_images_without_files_are_compared_by_their_voxels(folder):
    for name, source in (("a", None), ("b", "b"), ("c", None)):
        write(f"{name}.h5", {"r": (how(), noise(1))}, case=case_of(source=source))
    assert len(pairs(compared("a.h5", "b.h5", "c.h5").table)) > 0


def test_no_instance_in_common_is_one_line(folder):
    write("a.h5", {"r": (how(), noise(1))}, domains={1: DOMAINS[1]})
    write("b.h5", {"r": (how(), noise(1))}, domains={1: DOMAINS[2]})
    with pytest.raises(SegxaiError, match=r"^no two runs share an instance: .* --instances OTHER"):
        compared("a.h5", "b.h5")


def test_files_and_folders_do_not_mix(folder):
    write("a.h5", {"r": (how(), noise(1))})
    Path("empty").mkdir()
    with pytest.raises(SegxaiError, match=r"^empty is a folder and a.h5 is not"):
        compared("a.h5", "empty")
    with pytest.raises(SegxaiError, match=r"the folder empty holds no result: no file ends in .h5"):
        compared("empty", "empty")


def test_a_damaged_file_is_one_line(folder):
    write("a.h5", {"r": (how(), noise(1))})
    Path("b.h5").write_bytes(Path("a.h5").read_bytes()[:3000])
    with pytest.raises(SegxaiError, match=r"^b.h5 is not a readable HDF5 file"):
        compared("a.h5", "b.h5")


def test_the_table_can_be_read_again(folder):
    write("a.h5", {"r": (how(), noise(1))})
    table = compared("a.h5", "a.h5").table
    table.to_parquet("t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet("t.parquet"), table)


def test_grids_that_are_flipped_are_other_grids():
    flipped = Grid(SHAPE, np.diag([-1.0, 1, 1, 1]))
    assert flipped.place_on(Grid.unit(SHAPE)) is None
