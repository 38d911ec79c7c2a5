"""Synthetic lesions: where they go, what is shown there, and what is made of the scores."""

from itertools import product
from math import inf

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from segxai.experiments.cases import cases_in
from segxai.experiments.probe import Access
from segxai.experiments.synthetic.experiment import synthetic
from segxai.experiments.synthetic.places import balls_of, place_in, typical_tissue
from segxai.experiments.synthetic.report import half_dose, half_doses
from segxai.experiments.synthetic.settings import Synthetic
from segxai.geometry import Grid
from segxai.store.hdf5 import open_result
from segxai.store.reader import case_of, domains_of
from tests.commandline import segxai
from tests.toy.segxai_toy import Toy, bare_case


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


@pytest.fixture(scope="module")
def head(toy_result, tmp_path_factory):
    """The toy's result with a background: the last planes belong to no head."""
    path = tmp_path_factory.mktemp("head") / "head.h5"
    path.write_bytes(toy_result.read_bytes())
    with h5py.File(path, "a") as file:
        file["input/foreground"][:, :, 7:] = 0
    return path


@pytest.fixture(scope="module")
def tables(head):
    """What is measured on it, and the image, the domains and the lesion that is moved."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.commandline import use_toys

        use_toys(patch)
        cases = cases_in([head])
        settings = Synthetic(places=2, sizes=(7.0, 19.0), contrasts=(0.0, 1.0), label=3)
        found = synthetic(settings, Access()).measure(cases[0]).tables
    with open_result(head) as tree:
        return found, case_of(tree), domains_of(tree)


def scored(image, voxels):
    with torch.no_grad():
        logits = Toy()(torch.from_numpy(image)[None])[0][(slice(None), *voxels.T)]
    probability = torch.softmax(logits, dim=0)[1]
    return logits[1].mean().item(), probability.mean().item()


# ------------------------------------------------------------------------------------------ places


def test_places_lie_in_the_mask_and_on_the_grid():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:, :12] = True
    patch = np.add(np.argwhere(np.ones((4, 4))), (0, 16))
    found = place_in(mask, patch, 30, np.random.default_rng(0))
    assert len(found) == 30
    for offset in found:
        there = patch + offset
        assert (there >= 0).all()
        assert (there < 20).all()
        assert mask[tuple(there.T)].mean() >= 0.9
    assert len(np.unique(found, axis=0)) == 30
    again = place_in(mask, patch, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(found, again)
    assert len(place_in(mask[:, :6] & False, patch, 3, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (0.5, 2.0)])
def test_balls_hold_all_voxels_up_to_a_distance(spacing):
    grid = Grid((30,) * len(spacing), np.diag([*spacing, 1.0]))
    volume = np.prod(spacing)
    for size, ball in zip((20.0, 93.0), balls_of((20.0, 93.0), grid), strict=True):
        reach = np.sqrt(((ball * spacing) ** 2).sum(axis=1)).max()
        every = np.array(list(product(range(-40, 41), repeat=2))) if len(spacing) == 2 else None
        if every is None:
            every = np.argwhere(np.ones((25, 25, 25))) - 12
        inside = every[np.sqrt(((every * spacing) ** 2).sum(axis=1)) <= reach + 1e-9]
        assert {*map(tuple, ball)} == {*map(tuple, inside)}
        assert abs(len(ball) * volume - size) < 0.4 * size
    if spacing == (1.0, 1.0, 1.0):
        assert len(ball) == 93  # the paper's: squares of up to 8
        assert (ball**2).sum(axis=1).max() == 8


def test_typical_tissue_is_as_bright_as_what_surrounds_the_objects():
    image = np.random.default_rng(0).normal(0, 0.05, (2, 30, 30)).astype(np.float32)
    image[0, :, 20:] += 1  # another tissue
    case = bare_case(image)
    objects = np.zeros((30, 30), dtype=bool)
    objects[14:16, 6:8] = True
    away = ndimage.distance_transform_edt(~objects)
    found = typical_tissue(case, ~objects, away)
    assert not found[:, 20:].any()
    assert not found[objects].any()
    assert found[:, :20].mean() > 0.6  # 1.5 deviations in both channels hold 75 %
    far = np.full((30, 30), 50.0)
    np.testing.assert_array_equal(typical_tissue(case, ~objects, far), ~objects)


# ------------------------------------------------------------------------------------------- moved


def rows_of(table, arm):
    return table[table["arm"] == arm]


def test_a_moved_lesion_is_scored_where_it_is_now(tables):
    found, case, domains = tables
    moved = found["moved"]
    for row in rows_of(moved, "healthy tissue").itertuples():
        there = domains[3] + [int(step) for step in row.offset.split()]
        image = case.image.copy()
        image[(slice(None), *there.T)] = case.image[(slice(None), *domains[3].T)]
        logit, probability = scored(image, there)
        assert row.mean_logit == pytest.approx(logit, abs=1e-5)
        assert row.mean_probability == pytest.approx(probability, abs=1e-5)
    nothing = rows_of(moved, "nothing there").set_index("place")
    for row in rows_of(moved, "healthy tissue").itertuples():
        there = domains[3] + [int(step) for step in row.offset.split()]
        assert nothing.loc[row.place, "offset"] == row.offset
        assert nothing.loc[row.place, "mean_logit"] == pytest.approx(scored(case.image, there)[0])
        assert row.mean_logit > nothing.loc[row.place, "mean_logit"] + 0.5


def test_outside_of_the_head_the_background_is_filled(tables):
    found, case, domains = tables
    domain = np.zeros(case.grid.shape, dtype=bool)
    domain[tuple(domains[3].T)] = True
    near = ndimage.distance_transform_edt(~domain) <= 3
    dark = np.quantile(case.image[:, case.foreground], 0.02, axis=1)[:, None, None, None]
    for arm, patch in (("outside", domain), ("outside, 3 mm rim", near)):
        rows = rows_of(found["moved"], arm)
        assert set(rows["fill"]) == {"zero", "dark"}  # black is zero here
        for row in rows.itertuples():
            offset = np.array([int(step) for step in row.offset.split()])
            level = dark if row.fill == "dark" else 0
            image = np.where(case.foreground, case.image, level).astype(np.float32)
            voxels = np.argwhere(patch)
            image[(slice(None), *(voxels + offset).T)] = case.image[(slice(None), *voxels.T)]
            assert row.mean_logit == pytest.approx(scored(image, domains[3] + offset)[0], abs=1e-5)
            inside = case.foreground[tuple((voxels + offset).T)]
            assert inside.mean() <= 0.1


def test_peaks_are_those_of_the_mean_map(tables):
    found, case, domains = tables
    image = torch.from_numpy(case.image)[None].requires_grad_()
    logits = Toy()(image)[0][(slice(None), *domains[3].T)]
    for score, values in (("logit", logits[1]), ("probability", torch.softmax(logits, 0)[1])):
        gradient = torch.autograd.grad(values.mean(), image, retain_graph=True)[0][0]
        row = rows_of(found["moved"], "where it was").iloc[0]
        for channel, wanted in zip(("bright", "other"), gradient.amax(dim=(1, 2, 3)), strict=True):
            assert row[f"{channel}_peak_{score}"] == pytest.approx(wanted.item(), abs=1e-6)


def test_a_made_up_lesion_has_the_contrast_of_the_real_one(tables):
    found, case, domains = tables
    doses = found["doses"]
    objects = np.zeros(case.grid.shape, dtype=bool)
    for voxels in domains.values():
        objects[tuple(voxels.T)] = True
    domain = np.zeros(case.grid.shape, dtype=bool)
    domain[tuple(domains[3].T)] = True
    near = (ndimage.distance_transform_edt(~domain) <= 10) & case.foreground & ~objects
    contrast = case.image[:, domain].mean(axis=1) - case.image[:, near].mean(axis=1)
    balls = dict(zip((7.0, 19.0), balls_of((7.0, 19.0), case.grid), strict=True))
    assert len(doses) == 2 * 2 * 2
    for row in doses.itertuples():
        voxels = balls[row.size] + [int(one) for one in row.centre.split()]
        image = case.image.copy()
        image[(slice(None), *voxels.T)] += row.contrast * contrast[:, None].astype(np.float32)
        logit, probability = scored(image, voxels)
        assert row.mean_logit == pytest.approx(logit, abs=1e-5)
        assert row.mean_probability == pytest.approx(probability, abs=1e-5)


# ------------------------------------------------------------------------------------------- doses


def test_at_the_half_dose_half_of_the_places_are_detected():
    assert half_dose(np.array([0.5, 1.0, 1.5, 2.0])) == 1.0
    assert half_dose(np.array([0.5, inf, inf])) == inf
    assert half_dose(np.array([0.5, 0.5, inf])) == 0.5


def test_the_interval_of_a_dose_needs_ten_patients():
    def table(patients):
        return pd.DataFrame(
            {
                "model": "m", "size": 30.0, "voxels": 30, "patient": f"p{patient}",
                "case": f"c{patient}", "place": place, "contrast": contrast,
                "detected": contrast >= (0.5 if patient % 2 else 1.0),
            }
            for patient in range(patients)
            for place in range(2)
            for contrast in (0.0, 0.5, 1.0)
        )  # fmt: skip

    few = half_doses(table(9)).iloc[0]
    assert few["half_dose"] == 1.0  # five of nine patients need it
    assert np.isnan(few["low"])
    enough = half_doses(table(10)).iloc[0]
    assert (enough["low"], enough["high"]) == (0.5, 1.0)
    assert enough["places"] == 20


# ------------------------------------------------------------------------------------- the command


def test_the_command_leaves_out_what_has_no_room(toy_result, tmp_path, drawn):
    command = ("experiment", "synthetic", toy_result, "--out", tmp_path, "--places", "2")
    done = segxai(*command, "--sizes", "7", "--contrasts", "0,1")
    assert done.status == 0, done.err
    assert "outside: no room for the lesion; left out" in done.err
    assert "none: no background has room for the lesion" in done.out
    assert "made up, 7 mm3: half detected at" in done.out
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    parts = ("", "_doses", "_arms", "_half_doses")
    assert names >= {f"synthetic{part}.csv" for part in parts} | {"synthetic.svg", "synthetic.txt"}


def test_a_mask_says_where_lesions_may_go(flat_result, tmp_path):
    from PIL import Image

    with open_result(flat_result) as tree:
        case = case_of(tree)
    mask = np.zeros(case.grid.shape, dtype=np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    settings = Synthetic(places=3, where=tmp_path / "mask.png", sizes=(1.0,))
    found = synthetic(settings, Access()).measure(cases_in([flat_result])[0])
    doses = found.tables["doses"]
    assert len(doses)
    assert all(int(centre.split()[1]) >= 8 for centre in doses["centre"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--label", "99"), "no result has a detected lesion to move; name one with --label"),
        (("--fills", "blurred"), "the background outside of a head is empty"),
        (("--contrasts", "1"), "give two or more, in increasing order"),
        (("--sizes", "0"), "give volumes above 0"),
        (("--places", "0"), "0 places: give 1 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(toy_result, tmp_path, words, line):
    done = segxai("experiment", "synthetic", toy_result, "--out", tmp_path, *words)
    assert line in done.error
