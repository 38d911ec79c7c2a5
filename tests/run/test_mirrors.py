"""Mirrors: how far the mirror images of --tta agree on an instance, in the result and its table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segxai import open_result
from segxai.instances import components
from segxai.pipeline import explain_case
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.tables.domains import tabulate
from segxai.types import InstanceCriteria
from tests.toy.segxai_toy import TOY

AXES = (0, 2)


def table_of(folder, *, tta):
    adapter = replace(TOY, mirror_axes=AXES, origin={"name": "toy", "version": "1"})
    options = Options.of(method="gradient", aggregator="mean", tta=tta)
    task = prepare(adapter, adapter.embedded_case(), options)
    explain_case(task, folder / "r.h5")
    return task, tabulate(folder / "r.h5")


def test_the_table_says_how_far_the_mirror_images_agree(tmp_path):
    task, table = table_of(tmp_path, tta=True)
    network, image = TOY.load_network().eval(), torch.from_numpy(task.case.image)[None]
    masks = []
    for dims in ((), (2,), (4,), (2, 4)):
        with torch.no_grad():
            logits = torch.flip(network(torch.flip(image, dims)), dims)[0]
        masks.append((logits.softmax(dim=0)[1] > task.criteria.threshold).numpy())
    total = sum(mask.astype(int) for mask in masks)
    assert ((total > 0) & (total < len(masks))).any()  # they do not agree everywhere
    for row in table.to_dict("records"):
        best = []
        for mask in masks:
            parts = components(mask, task.case.grid, InstanceCriteria())
            own = domain_of(tmp_path, row["label"])
            best.append(max(iou(own, part) for part in parts))
        assert row["structural_uncertainty"] == pytest.approx(1 - np.mean(best))
    assert table["structural_uncertainty"].nunique() > 1


def domain_of(folder, label):
    with open_result(folder / "r.h5") as tree:
        return np.argwhere(tree["segmentation/labels"].values == label)


def iou(one, other):
    first, second = (set(map(tuple, voxels.tolist())) for voxels in (one, other))
    return len(first & second) / len(first | second)


def test_without_mirror_images_it_is_not_known(tmp_path):
    _, table = table_of(tmp_path, tta=False)
    assert table["structural_uncertainty"].isna().all()
