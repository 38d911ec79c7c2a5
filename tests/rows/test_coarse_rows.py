"""Rows of an interpolated score are the same sums of the coarse logits' rows."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional

from segxai.methods.gradient import InstanceGradient
from segxai.rows.batch import RowBatch
from segxai.rows.coarse_rows import _sum
from segxai.rows.engines import make_engine
from segxai.rows.mean_row import mean_row
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import whole_image
from segxai.types import Instance
from tests.networks import block, coarse_network, image_of
from tests.rows.whole_grid import in_order, rows_on_grid

SIZE, OUT = (24, 20), (35, 31)


def image():
    return image_of((2, *SIZE), seed=1)


def predictor(activation="softmax"):
    readout = Readout.linear((6, 5), OUT)
    return Predictor(coarse_network(), whole_image(SIZE), readout=readout, activation=activation)


def literal_score(logits, class_index, score, activation):
    """The definitions, word for word."""
    own = logits[class_index]
    if score == "probability":
        return own.sigmoid() if activation == "sigmoid" else logits.softmax(0)[class_index]
    if score == "margin" and activation == "softmax":
        return own - max(one for index, one in enumerate(logits) if index != class_index)
    return own


def literal_rows(network, x, voxels, class_index, score, activation="softmax"):
    """One backward pass a voxel, through torch's own interpolation."""
    found = []
    for voxel in voxels:
        leaf = x.clone().requires_grad_()
        logits = functional.interpolate(network(leaf), OUT, mode="bilinear")
        value = literal_score(logits[0][(slice(None), *voxel)], class_index, score, activation)
        found.append(torch.autograd.grad(value, leaf)[0][0])
    return torch.stack(found)


def voxels_of_a_block():
    return block(OUT, (9, 12), (8, 10)).voxels


@pytest.mark.parametrize("engine", ["dense", "windowed"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_are_those_of_the_interpolated_logit(engine, batch):
    x, voxels = image(), voxels_of_a_block()
    found = rows_on_grid(predictor(), x, voxels, make_engine(engine, batch), class_index=2)
    wanted = literal_rows(coarse_network(), x, voxels, 2, "logit")
    error = (in_order(found) - in_order(wanted)).abs().max()
    assert error <= 1e-5 * wanted.abs().max()


def test_batches_change_neither_values_nor_order():
    x, voxels = image(), voxels_of_a_block()
    one, many = (rows_on_grid(predictor(), x, voxels, make_engine("dense", n)) for n in (1, 7))
    torch.testing.assert_close(one, many, atol=1e-6, rtol=0)


def test_rows_go_on_where_they_stopped():
    x, voxels = image(), voxels_of_a_block()
    whole, rest = (
        rows_on_grid(predictor(), x, voxels, make_engine("windowed", 4), done=n) for n in (0, 33)
    )
    torch.testing.assert_close(whole[33:], rest, atol=1e-7, rtol=0)


@pytest.mark.parametrize("score", ["logit", "margin", "probability"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
def test_maps_are_those_of_a_literal_loop(score, activation, aggregator):
    x, voxels = image(), voxels_of_a_block()
    instance = Instance(1, voxels, class_index=1)
    method = InstanceGradient(predictor(activation), aggregator, score=score)
    with torch.no_grad():  # as a noise tunnel calls it
        found = method.attribute(x, instance=instance)[0]
    each = literal_rows(coarse_network(), x, voxels, 1, score, activation)
    wanted = each.mean(dim=0)
    if aggregator == "signed_max":
        wanted = torch.where(each.amax(0) >= -each.amin(0), each.amax(0), each.amin(0))
        tie = (each.amax(0) + each.amin(0)).abs() < 1e-5 * each.abs().max()
        found, wanted = found.masked_fill(tie, 0), wanted.masked_fill(tie, 0)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_an_instance_that_no_logit_reaches_has_rows_of_zeros():
    blind = Readout((torch.zeros(1, 9, 6), torch.zeros(1, 9, 5)))
    looking = Predictor(coarse_network(), whole_image(SIZE), readout=blind)
    found = rows_on_grid(looking, image(), np.array([[1, 1], [2, 2]]), class_index=0)
    assert found.shape == (2, 2, *SIZE)
    assert not found.any()
    assert not mean_row(looking, image(), np.array([[1, 1]]), class_index=0).any()


def test_a_mean_of_logits_never_holds_all_classes_on_the_whole_grid(monkeypatch):
    seen, whole = [], Readout.__call__

    def watched(self, coarse):
        seen.append(coarse.shape[1])
        return whole(self, coarse)

    monkeypatch.setattr(Readout, "__call__", watched)
    mean_row(predictor(), image(), voxels_of_a_block(), class_index=1)
    assert set(seen) == {1}


def test_rows_that_no_cell_reaches_are_one_voxel_of_zeros():
    held = {0: RowBatch(torch.ones(1, 3, 4, 5), (1, 2))}
    found = _sum(held, csr_array((2, 1)))
    assert (found.values.tolist(), found.start) == (torch.zeros(2, 3, 1, 1).tolist(), (0, 0))
