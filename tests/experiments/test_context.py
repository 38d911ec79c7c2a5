"""Context: what is shown to the model, what it says, and what is made of that."""

from itertools import product
from math import inf

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from segxai import SegxaiError
from segxai.experiments.cases import cases_in
from segxai.experiments.context.curves import all_detected_from, curves_of, plateau, plateaus_of
from segxai.experiments.context.experiment import Context, context
from segxai.experiments.fills import Filler, dilation_distance, healthy_mean, usable_fills
from segxai.experiments.probe import Access
from segxai.geometry import Box
from segxai.store.hdf5 import open_result
from segxai.store.reader import case_of, domains_of
from segxai.types import Quiet
from tests.commandline import segxai
from tests.toy.segxai_toy import Toy, bare_case


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


class Said(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def measured(path, **settings):
    cases = cases_in([path])
    experiment = context(Context(**settings), cases, Access())
    return experiment.measure(cases[0]).tables["steps"]


# ----------------------------------------------------------------------------------- what is shown


def test_scores_are_those_of_an_image_that_is_filled_voxel_by_voxel(toy_result):
    with open_result(toy_result) as tree:
        case, domain = case_of(tree), domains_of(tree)[2]
    table = measured(toy_result, fills=("zero", "blurred"), steps=(0.0, 2.0), dilation=False)
    found = table[(table["label"] == 2) & (table["fill"] == "zero") & (table["step"] == 2.0)]
    image = np.zeros_like(case.image)
    for voxel in product(*map(range, case.grid.shape)):
        if min(np.sqrt(((domain - voxel) ** 2).sum(axis=1))) <= 2.0:
            image[(slice(None), *voxel)] = case.image[(slice(None), *voxel)]
    with torch.no_grad():
        logits = Toy()(torch.from_numpy(image)[None])[0][(slice(None), *domain.T)]
    probability = torch.softmax(logits, dim=0)[1].numpy()
    assert found["mean_logit"].item() == pytest.approx(logits[1].mean().item(), abs=1e-5)
    assert found["mean_probability"].item() == pytest.approx(probability.mean(), abs=1e-5)
    assert found["max_probability"].item() == pytest.approx(probability.max(), abs=1e-5)
    assert found["detected"].item() == (probability > 0.5).any()


def test_the_whole_image_gives_what_the_result_holds_and_the_last_step_gives_it_back(toy_result):
    table = measured(toy_result, fills=("zero", "dark"), steps=(0.0, 60.0))
    clean = table[table["fill"] == "none"].set_index("label")["mean_probability"]
    with open_result(toy_result) as tree:
        stored = tree["instances/mean_probability"].to_series()
    assert clean.to_dict() == pytest.approx(stored.to_dict(), abs=1e-6)
    back = table[(table["step"] == 60) & (table["grown"] == "distance")]
    for _, arm in back.groupby("fill"):
        assert arm.set_index("label")["mean_probability"].to_dict() == pytest.approx(
            clean.to_dict()
        )
    alone = table[(table["step"] == 0) & (table["fill"] == "zero") & (table["grown"] == "distance")]
    assert (alone.set_index("label")["mean_probability"] != clean).all()


def test_the_reach_of_two_convolutions_is_two_voxels(toy_result):
    table = measured(toy_result, fills=("zero",), steps=(0.0,), dilation=False)
    assert table["receptive_field"].max() == pytest.approx(np.sqrt(12))  # the corner of 5 x 5 x 5
    assert (table["reach"] <= table["receptive_field"]).all()


def test_dilations_by_18_neighbours_in_closed_form():
    domain = np.zeros((15, 15, 15), dtype=bool)
    domain[7, 7, 7] = True
    offsets = np.abs(np.indices(domain.shape) - 7)
    needed = np.maximum(offsets.max(axis=0), np.ceil(offsets.sum(axis=0) / 2))
    found = dilation_distance(domain, 5)
    np.testing.assert_array_equal(found, np.where(needed <= 5, needed, inf))


def test_fills_have_the_values_that_they_are_said_to_have():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    case = bare_case(image)
    healthy = np.zeros((8, 8, 8), dtype=bool)
    healthy[0], healthy[7] = True, True
    distance = np.where(np.arange(8) < 4, 2.0, 20.0)[:, None, None] * np.ones((8, 8, 8))
    box = Box((0, 0, 2), (8, 8, 4))
    fill = Filler(case, healthy)
    for name, wanted in {
        "zero": [0, 0],
        "dark": np.quantile(image.reshape(2, -1), 0.02, axis=1),
        "healthy": image[:, 0, :, 2:6].mean(axis=(1, 2)),
    }.items():
        found = fill.image(name, box, distance[box.index])
        assert found.shape == (2, 8, 8, 4)
        np.testing.assert_allclose(found[:, 3, 3, 3], wanted, atol=1e-6)
        assert (found == found[:, :1, :1, :1]).all()
    blurred = fill.image("blurred", box, distance[box.index])
    assert 0 < blurred.std() < 0.2 * image.std()
    far = healthy_mean(image, healthy, np.full((8, 8, 8), 50.0))
    np.testing.assert_allclose(far, image[:, [0, 7]].mean(axis=(1, 2, 3)), atol=1e-6)


def test_black_is_run_where_it_is_known_and_not_zero():
    case = bare_case(np.zeros((2, 4, 4), dtype=np.float32))
    dark = type(case)(**{**vars(case), "black": (-2.0, 0.0)})
    zero = type(case)(**{**vars(case), "black": (0.0, 0.0)})
    assert usable_fills(("zero", "black"), dark) == ("zero", "black")
    assert usable_fills(("zero", "black"), zero) == ("zero",)
    assert usable_fills(("black",), zero) == ("black",)
    assert usable_fills(("black", "dark"), case) == ("dark",)
    with pytest.raises(SegxaiError, match="becomes is not known of this case"):
        usable_fills(("black",), case)
    box = Box.whole((4, 4))
    levels = Filler(dark, np.ones((4, 4), bool)).levels("black", box, np.zeros((4, 4)))
    assert levels.tolist() == [-2.0, 0.0]


# ----------------------------------------------------------------------------- what is made of it

STEPS = np.arange(6.0)


@pytest.mark.parametrize(
    ("curve", "wanted"),
    [
        ([0.1, 0.5, 0.77, 0.8, 0.8, 0.8], 2),
        ([0.1, 0.8, 0.5, 0.6, 0.79, 0.8], 4),  # it was there at 1, and left again
        ([0.1, 0.9, 0.9, 0.8, 0.8, 0.8], 3),  # above is as far as below
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.75], inf),
        ([0.79, 0.8, 0.8, 0.8, 0.8, 0.8], 0),
    ],
)
def test_a_plateau_of_the_probability_stays_within_a_twentieth_of_the_value(curve, wanted):
    assert plateau(STEPS, np.array(curve), 0.8, score="probability") == wanted


def test_a_plateau_of_the_logit_is_measured_by_the_range():
    curve = np.array([-9.0, -1.0, 0.4, 0.6, 1.0, 1.0])  # a range of 10: within 0.5
    assert plateau(STEPS, curve, 1.0, score="logit") == 3
    assert plateau(STEPS, curve + 100, 101.0, score="logit") == 3
    assert plateau(STEPS, curve, 6.0, score="logit") == inf  # the range counts the unfilled value


def test_all_are_detected_from_the_last_step_at_which_one_is_missing():
    detected = np.array([[0, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
    assert all_detected_from(STEPS, detected, np.array([True, True, False])) == 3
    assert all_detected_from(STEPS, detected, np.array([True, True, True])) == inf


def made_up(patients, *, shift=0.0):
    """One instance a patient, whose curve rises to 0.8 at step 3."""
    rows = []
    for number in range(patients):
        about = {"case": f"c{number}", "patient": f"p{number}", "model": "m", "label": 1}
        levels = [0.1, 0.3, 0.5, 0.8, 0.8, 0.8]
        more = {"mean_logit": 0.0, "detected": True, "reach": 4.0, "receptive_field": 9.0}
        clean = {"fill": "none", "grown": "", "step": np.nan, "mean_probability": 0.8}
        rows.append({**about, **more, **clean})
        for step, level in zip(STEPS, levels, strict=True):
            value = level + shift * number
            one = {"fill": "zero", "grown": "distance", "step": step, "mean_probability": value}
            rows.append({**about, **more, **one})
    return pd.DataFrame(rows)


def test_an_interval_needs_ten_patients():
    few = plateaus_of(made_up(9)).set_index("score").loc["probability"]
    assert few["plateau"] == 3
    assert np.isnan(few["low"])
    assert np.isnan(few["high"])
    enough = plateaus_of(made_up(10)).set_index("score").loc["probability"]
    assert (enough["low"], enough["plateau"], enough["high"]) == (3, 3, 3)  # all are the same


def test_curves_average_instances():
    curves = curves_of(made_up(3, shift=0.1)).set_index(["fill", "step"])
    at = curves.loc[("zero", 1.0)]
    assert at["instances"] == 3
    assert at["detected"] == 3
    assert at["mean_probability"] == pytest.approx(0.4)
    assert at["sd_probability"] == pytest.approx(0.1)


# ------------------------------------------------------------------------------------- the command


def _read(path):
    words = {"session": "", "grown": "", "outcome": ""}
    return pd.read_csv(path, dtype=dict.fromkeys(words, str)).fillna(words)


def test_the_command_writes_everything_goes_on_and_refuses_other_settings(
    toy_result, tmp_path, drawn
):
    out = tmp_path / "out"
    command = ("experiment", "context", toy_result, "--out", out, "--fills", "zero,dark")
    command = (*command, "--steps", "0,1,2,4")
    done = segxai(*command)
    assert done.status == 0, done.err
    assert "none of the paper's 90 to 120 mm3: the 4 instances have" in done.err
    assert "toy: 4 instances in 1 scan of 1 patient, 4 detected" in done.out
    assert "no intervals: 1 patient, and at least 10 are needed" in done.out
    names = {path.name for path in out.iterdir() if path.is_file()}
    wanted = {f"context{part}.{end}" for part in ("", "_strip") for end in ("png", "svg")}
    tables = {f"context{part}.csv" for part in ("", "_curves", "_plateaus")}
    assert names >= wanted | tables | {"context.parquet", "context.txt"}
    table = _read(out / "context.csv")
    pd.testing.assert_frame_equal(
        table, pd.read_parquet(out / "context.parquet"), check_dtype=False
    )
    assert len(table) == 4 * (1 + 3 * 4)  # unfilled, then two fills and one by dilation
    with Image.open(out / "context.png") as picture:
        assert min(picture.size) > 300
    before = {name: (out / name).read_bytes() for name in names}
    again = segxai(*command)
    assert "kept from an earlier run" in again.err
    assert {name: (out / name).read_bytes() for name in names} == before
    other = segxai(*command[:-1], "0,1,2")
    assert "measured otherwise: settings steps is [0.0, 1.0, 2.0, 4.0] in the file" in other.error
    assert segxai(*command[:-1], "0,1,2", "--overwrite").status == 0


def test_a_picture_is_measured_in_pixels(flat_result, tmp_path):
    command = ("experiment", "context", flat_result, "--out", tmp_path, "--steps", "0,1,2")
    done = segxai(*command)
    assert done.status == 0, done.err
    assert "px" in done.out
    assert " mm" not in done.out.replace("mm (pixels)", "")
    assert "area_px" in pd.read_csv(tmp_path / "context.csv")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--volume", "500,900"), "no instance of 500 to 900 mm3: the 4 instances have"),
        (("--volume", "9"), "--volume 9: give the smallest and the largest, such as 90,120"),
        (("--outcomes", "TN"), "no instance with the outcome TN in the results"),
        (("--fills", "grey"), "unknown fill 'grey'; known: black, blurred, dark, healthy, zero"),
        (("--steps", "0,-1"), "steps (0.0, -1.0): give distances of 0 or more, such as 0,1,2"),
        (("--steps", "near"), "--steps near: give numbers, such as 0,1,2"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(toy_result, tmp_path, words, line):
    done = segxai("experiment", "context", toy_result, "--out", tmp_path, *words)
    assert line in done.error


def test_a_second_result_of_the_same_scan_and_model_is_left_out(toy_result, tmp_path):
    other = tmp_path / "again.h5"
    other.write_bytes(toy_result.read_bytes())
    command = ("experiment", "context", toy_result, other, "--out", tmp_path / "out")
    done = segxai(*command, "--steps", "0,1", "--fills", "zero")
    assert done.status == 0, done.err
    assert "again.h5 is left out: the same scan and model as r.h5" in done.err
