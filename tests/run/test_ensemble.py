"""Ensembles: how far mirror images, or folds, agree on an instance, in the result and its table."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from segxai import SegxaiError, open_result
from segxai.instances import components
from segxai.pipeline import explain_case
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.tables.domains import tabulate
from segxai.types import InstanceCriteria
from tests.commandline import segxai
from tests.toy.segxai_toy import TOY

AXES = (0, 2)


def table_of(folder, *, tta=False, folds=()):
    adapter = replace(TOY, mirror_axes=AXES, origin={"name": "toy", "version": "1"})
    options = Options.of(method="gradient", aggregator="mean", tta=tta)
    task = prepare(adapter, adapter.embedded_case(), options, folds=folds)
    explain_case(task, folder / "r.h5")
    return task, tabulate(folder / "r.h5")


def fold(bias):
    """The toy with another bias of its class: it predicts more voxels, or fewer."""

    def load_network():
        network = TOY.load_network()
        with torch.no_grad():
            network.logits.bias[1] += bias
        return network

    return replace(TOY, load_network=load_network)


def test_the_table_says_how_far_the_mirror_images_agree(tmp_path):
    task, table = table_of(tmp_path, tta=True)
    network, image = TOY.load_network().eval(), torch.from_numpy(task.case.image)[None]
    masks = []
    for dims in ((), (2,), (4,), (2, 4)):
        with torch.no_grad():
            logits = torch.flip(network(torch.flip(image, dims)), dims)[0]
        masks.append((logits.softmax(dim=0)[1] > task.criteria.threshold).numpy())
    check(tmp_path, task, table, masks)


def test_the_table_says_how_far_the_folds_agree(tmp_path):
    folds = fold(-0.8), fold(0.6), fold(1.2)
    task, table = table_of(tmp_path, folds=folds)
    image, masks = torch.from_numpy(task.case.image)[None], []
    for one in folds:
        with torch.no_grad():
            logits = one.load_network().eval()(image)[0]
        masks.append((logits.softmax(dim=0)[1] > task.criteria.threshold).numpy())
    check(tmp_path, task, table, masks)


def check(folder, task, table, masks):
    total = sum(mask.astype(int) for mask in masks)
    assert ((total > 0) & (total < len(masks))).any()  # they do not agree everywhere
    for row in table.to_dict("records"):
        best = []
        for mask in masks:
            parts = components(mask, task.case.grid, InstanceCriteria())
            own = domain_of(folder, row["label"])
            best.append(max(iou(own, part) for part in parts))
        assert row["structural_uncertainty"] == pytest.approx(1 - np.mean(best))
    assert table["structural_uncertainty"].nunique() > 1


def domain_of(folder, label):
    with open_result(folder / "r.h5") as tree:
        return np.argwhere(tree["segmentation/labels"].values == label)


def iou(one, other):
    first, second = (set(map(tuple, voxels.tolist())) for voxels in (one, other))
    return len(first & second) / len(first | second)


def test_without_an_ensemble_it_is_not_known(tmp_path):
    _, table = table_of(tmp_path)
    assert table["structural_uncertainty"].isna().all()


def test_a_fold_of_another_model_is_refused(tmp_path):
    other = replace(TOY, channels=("bright", "else"))
    with pytest.raises(SegxaiError, match=r"has the channels bright, else, and the model .* other"):
        table_of(tmp_path, folds=[other])


def test_folds_are_named_by_their_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "squares.py").write_text(SQUARES)
    for name, shift in (("a", 0.0), ("b", 0.3)):
        torch.save({"shift": torch.full((1,), shift)}, f"{name}.pt")
    image = np.zeros((12, 12), np.uint8)
    image[3:8, 4:9], image[3, 4:9] = 200, 120  # a square with a fainter edge
    Image.fromarray(image).save("i.png")
    run = ("run", "--model", "squares:make", "--channels", "grey", "--classes", "rest,square")
    run += ("i.png", "--normalise", "none", "--method", "gradient", "--checkpoint", "a.pt")
    done = segxai(*run, "--fold", "a.pt", "--fold", "b.pt", "--out", "r.h5")
    assert done.status == 0, done.err
    (found,) = tabulate(tmp_path / "r.h5")["structural_uncertainty"]
    assert found == pytest.approx((0 + 1 / 5) / 2)
    with open_result(tmp_path / "r.h5") as tree:
        known = json.loads(tree.attrs["provenance"])["folds"]
    assert [one["name"] for one in known] == ["a.pt", "b.pt"]
    more = segxai(*run, "--score", "probability", "--append", "--out", "r.h5")
    assert more.status == 0, more.err  # maps do not depend on folds
    assert tabulate(tmp_path / "r.h5")["structural_uncertainty"].tolist() == [found] * 2
    other = segxai(*run, "--fold", "b.pt", "--append", "--out", "r.h5")
    assert other.error.startswith("r.h5 holds another case or model: folds")
    assert segxai(*run, "--fold", "c.pt", "--out", "s.h5").error == "no checkpoint at c.pt"


SQUARES = """
import torch
from torch import nn

class Threshold(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        score = 10 * (image / 255 - 0.3 - self.shift)
        return torch.cat([-score, score], dim=1)

def make():
    return Threshold()
"""
