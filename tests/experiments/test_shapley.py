"""Channel Shapley values: exact over all sets of channels, and held against the maps' order."""

import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from segxai.experiments.cases import cases_in
from segxai.experiments.fills import Filler
from segxai.experiments.modalities.experiment import Modalities, modalities
from segxai.experiments.modalities.ranks import rank_words, ranks_of, with_shapley
from segxai.experiments.modalities.shapley import Replacement, shapley_values
from segxai.experiments.probe import Access
from segxai.geometry import Box
from segxai.models.own_model import OwnModel
from segxai.run.restore import Places
from segxai.store.hdf5 import open_result
from segxai.store.reader import case_of, domains_of
from tests.commandline import install, segxai, use_toys, write_nifti
from tests.toy.segxai_toy import SHAPE, Toy, picture

LINEAR = """
import torch
from torch import nn

def network(channels=3):
    made = nn.Conv3d(channels, 2, 1)
    with torch.no_grad():
        made.weight.zero_()
        made.weight[1, :3, 0, 0, 0] = torch.tensor([8.0, -2.0, 0.5])
        made.bias.copy_(torch.tensor([0.0, -4.0]))
    return made

def nine():
    return network(9)
"""
WEIGHTS = (8.0, -2.0, 0.5)
QUICK = ("--method", "gradient", "--aggregator", "mean", "--score", "logit,probability")


@pytest.fixture(autouse=True)
def _toys(toys):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with results of a linear network with three channels, and of one with nine."""
    folder = tmp_path_factory.mktemp("linear")
    (folder / "linears.py").write_text(LINEAR)
    images = np.random.default_rng(1).uniform(0, 1, (9, *SHAPE)).astype(np.float32)
    images[0] = picture()[0]
    files = [write_nifti(folder / f"c{number}.nii.gz", one) for number, one in enumerate(images)]
    with pytest.MonkeyPatch.context() as patch:
        install(patch, folder)
        use_toys(patch)
        for name, count in (("network", 3), ("nine", 9)):
            channels = ",".join(f"c{number}" for number in range(count))
            words = ("--model", f"linears:{name}", "--channels", channels, "--classes", "rest,ball")
            done = segxai("run", *words, *files[:count], *QUICK, "--out", folder / f"{name}.h5")
            assert done.status == 0, done.err
    sys.modules.pop("linears")
    return folder


@pytest.fixture
def linear(made, tmp_path, monkeypatch):
    """The same folder, and its networks at hand; what is written goes to another."""
    install(monkeypatch, made)
    monkeypatch.chdir(tmp_path)
    yield made
    sys.modules.pop("linears", None)


def random_worth(channels, seed=0):
    return np.random.default_rng(seed).normal(size=(2,) * channels)


def measured(path, places=None, **replacement):
    cases = cases_in([path])
    access = Access(places or Places())
    experiment = modalities(Modalities(replacement=Replacement(**replacement)), cases, access)
    return experiment.measure(cases[0]).tables["shapley"]


# ----------------------------------------------------------------------------------- the values


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8])
def test_values_sum_to_what_all_channels_gain(channels):
    worth = random_worth(channels)
    assert shapley_values(worth).sum() == pytest.approx(worth.flat[-1] - worth.flat[0])


def test_channels_that_gain_the_same_have_the_same_value_and_an_idle_one_has_none():
    worth = random_worth(4)
    worth = worth + worth.swapaxes(1, 3)
    worth[:, :, 1] = worth[:, :, 0]
    values = shapley_values(worth)
    assert values[1] == pytest.approx(values[3])
    assert values[2] == pytest.approx(0)
    order = (2, 0, 3, 1)
    assert shapley_values(worth.transpose(order)) == pytest.approx(values[list(order)])


def test_values_are_the_mean_gain_over_all_orders():
    worth, gains = random_worth(3), np.zeros(3)
    orders = list(permutations(range(3)))
    for order in orders:
        kept = [0, 0, 0]
        for channel in order:
            before = worth[tuple(kept)]
            kept[channel] = 1
            gains[channel] += worth[tuple(kept)] - before
    assert shapley_values(worth) == pytest.approx(gains / len(orders))


# --------------------------------------------------------------------------- the values of a model


def test_a_linear_network_gives_weight_times_what_was_replaced(linear):
    own = Places(own=OwnModel(model="linears:network"))
    table = measured(linear / "network.h5", own, fill="zero")
    with open_result(linear / "network.h5") as tree:
        image, domains = case_of(tree).image, domains_of(tree)
    assert len(table) == 2 * 3 * len(domains)
    for label, own in table[table["score"] == "logit"].groupby("label"):
        means = image[(slice(None), *domains[label].T)].mean(axis=1)
        wanted = np.array(WEIGHTS) * means
        assert own["channel"].tolist() == ["c0", "c1", "c2"]
        assert own["shapley"].to_numpy() == pytest.approx(wanted, rel=1e-4)
        assert own["score_replaced"].to_numpy() == pytest.approx(-4)


@pytest.mark.parametrize("within", ["domain", "image"])
@pytest.mark.parametrize("fill", ["healthy", "blurred"])
def test_every_set_of_channels_is_run_on_the_whole_image(toy_result, fill, within):
    label = 2
    with open_result(toy_result) as tree:
        case, domains = case_of(tree), domains_of(tree)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(domains[label].T)] = True
    away = np.array([
        np.linalg.norm(domains[label] - voxel, axis=1).min() for voxel in np.ndindex(SHAPE)
    ]).reshape(SHAPE)  # fmt: skip
    healthy = np.ones(SHAPE, dtype=bool)
    for one in domains.values():
        healthy[tuple(one.T)] = False
    box = Box.whole(SHAPE)
    other = Filler(case, healthy).image(fill, box, away)
    worth = {"logit": np.zeros((2, 2)), "probability": np.zeros((2, 2))}
    for kept in product((0, 1), repeat=2):
        image = case.image.copy()
        for channel in range(2):
            if not kept[channel]:
                where = mask if within == "domain" else np.ones_like(mask)
                image[channel][where] = other[channel][where]
        with torch.no_grad():
            logits = Toy()(torch.from_numpy(image)[None])[0][:, mask]
        worth["logit"][kept] = logits[1].mean()
        worth["probability"][kept] = torch.softmax(logits, dim=0)[1].mean()
    table = measured(toy_result, fill=fill, within=within)
    for score, (none, second, first, both) in ((k, v.flat) for k, v in worth.items()):
        own = table[(table["label"] == label) & (table["score"] == score)]
        wanted = [(first - none + both - second) / 2, (second - none + both - first) / 2]
        assert own["channel"].tolist() == ["bright", "other"]
        assert own["shapley"].to_numpy() == pytest.approx(wanted, abs=1e-5)
        assert own["score_full"].to_numpy() == pytest.approx(both, abs=1e-5)
        assert own["score_replaced"].to_numpy() == pytest.approx(none, abs=1e-5)


# -------------------------------------------------------------------------------------- the ranks


def weights_of_three(**more):
    rows = [
        # Lesion 1 in the same order, lesion 2 in the opposite one; the patient's means as lesion 1.
        {"label": label, "channel": channel, "weight": weight, "shapley": value}
        for label, weights, values in ((1, (9, 5, 1), (-9, 5, 1)), (2, (1, 2, 3), (3, 2, -1)))
        for channel, weight, value in zip("abc", weights, values, strict=True)
    ]
    same = {"run": "r", "case": "c", "patient": "p", "outcome": "TP"}
    table = pd.DataFrame(rows).assign(**same, **more)
    return table.assign(positive=table["weight"], negative=0.0, net=table["shapley"])


def test_orders_are_compared_in_each_domain_and_each_patient():
    weights = weights_of_three()
    ranks = ranks_of(weights, ["outcome"])
    own = ranks[ranks["measure"] == "weight"].set_index(["level", "label"])
    assert own["same_order"].tolist() == [True, False, True]
    assert own["rank_correlation"].tolist() == pytest.approx([1, -1, 1])
    signed = ranks[ranks["measure"] == "net"]
    assert signed["same_order"].all()
    assert ranks.loc[ranks["measure"] == "negative", "rank_correlation"].isna().all()
    positive = ranks[(ranks["measure"] == "positive") & (ranks["level"] == "domain")]
    assert positive["rank_correlation"].tolist() == pytest.approx([-0.5, -1])
    said = list(rank_words(weights, ranks))
    assert said[0] == "  mean Shapley values: a -3, b +3.5, c +0"
    assert said[1] == (
        "  same order of channels by |Shapley value| and mean magnitude: in 1 of 2 domains "
        "(mean rank correlation +0.00) and 1 of 1 patient (mean rank correlation +1.00)"
    )


def test_one_channel_or_no_value_has_no_order():
    weights = weights_of_three()
    assert not len(ranks_of(weights[weights["channel"] == "a"], ["outcome"]))
    assert not len(ranks_of(weights.assign(shapley=np.nan), ["outcome"]))


def test_values_are_added_by_domain_score_and_channel():
    weights = weights_of_three(score="logit").drop(columns="shapley")
    values = weights[["label", "score", "channel"]].assign(shapley=range(6)).sample(frac=1)
    found = with_shapley(weights, pd.concat([values, values.assign(score="probability")]))
    assert found["shapley"].tolist() == list(range(6))
    assert with_shapley(weights, pd.DataFrame())["shapley"].isna().all()


# ------------------------------------------------------------------------------------ the command


def test_the_command_writes_values_and_says_whether_orders_agree(toy_result, tmp_path):
    done = segxai("experiment", "modalities", toy_result, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "mean Shapley values: bright +" in done.out
    assert "by |Shapley value| and mean magnitude: in 4 of 4 domains" in done.out
    assert "is replaced in the domain by the mean of healthy foreground" in done.out
    table = pd.read_csv(tmp_path / "modalities_shapley.csv")
    sums = table.groupby(["label", "score"])["shapley"].sum()
    ends = table.groupby(["label", "score"])[["score_full", "score_replaced"]].first()
    wanted = ends["score_full"] - ends["score_replaced"]
    assert sums.to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-6)
    with open_result(toy_result) as tree:
        stored = tree["instances/mean_probability"].values
    full = ends.xs("probability", level="score")["score_full"]
    assert full.to_numpy() == pytest.approx(stored, abs=1e-6)
    lesions = pd.read_csv(tmp_path / "modalities_lesions.csv")
    merged = lesions.merge(table, on=["label", "score", "channel"])
    assert len(merged) == len(lesions) == 4 * 2 * 2
    assert merged["shapley_x"].to_numpy() == pytest.approx(merged["shapley_y"].to_numpy())


def test_without_the_model_the_rest_is_given_and_the_model_completes_it(linear):
    command = ("experiment", "modalities", linear / "network.h5", "--out", "found", "--cut", "0.1")
    done = segxai(*command)
    assert done.status == 0, done.err
    assert "no Shapley values of" in done.out
    assert "linears:network" in done.out  # the reason
    assert "mean magnitude of c0 less that of c1:" in done.out
    assert not Path("found/modalities_shapley.csv").exists()
    again = segxai(*command, "--model", "linears:network")
    assert again.status == 0, again.err
    assert "no Shapley values of" not in again.out
    assert "mean Shapley values: c0 +" in again.out


def test_a_model_that_was_named_must_be_that_of_the_result(linear):
    command = ("experiment", "modalities", linear / "network.h5", "--out", "found")
    assert "no_such" in segxai(*command, "--model", "linears:no_such").error


def test_more_than_eight_channels_are_refused_and_the_rest_can_be_had(linear):
    command = ("experiment", "modalities", linear / "nine.h5", "--out", "found")
    error = segxai(*command, "--model", "linears:nine").error
    assert "nine.h5 has 9 channels: their Shapley values would take 512 passes" in error
    assert "give --no-shapley" in error
    done = segxai(*command, "--no-shapley")
    assert done.status == 0, done.err
    assert "Shapley" not in done.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--fill", "grey"), "unknown fill 'grey'"),
        (("--within", "brain"), "unknown place 'brain'; known: domain, image"),
    ],
)
def test_an_unknown_replacement_is_refused(toy_result, tmp_path, words, line):
    done = segxai("experiment", "modalities", toy_result, "--out", tmp_path, *words)
    assert line in done.error
