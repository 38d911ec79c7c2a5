"""Readouts: rows of an interpolated score are the same sums of the coarse logits' rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from segxai.methods.gradcam import InstanceGradCamPlusPlus
from segxai.methods.gradient import InstanceGradient
from segxai.rows.engines import make_engine
from segxai.rows.jacobian import rows
from segxai.rows.mean_row import mean_row
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import sliding_window, whole_image
from segxai.types import Instance

SIZE, OUT = (24, 20), (35, 31)
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def coarse_network(rank=2, classes=3):
    torch.manual_seed(0)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        convolution(2, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(6, 6, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(6, classes, 1),
    ).eval()


def image(size=SIZE):
    return torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))


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
    mask = np.zeros(OUT, dtype=bool)
    mask[9:17, 12:22] = True
    return np.argwhere(mask)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_linear_readouts_are_interpolation(data):
    rank = data.draw(st.integers(1, 3))
    coarse = tuple(data.draw(st.integers(1, 6)) for _ in range(rank))
    out = tuple(data.draw(st.integers(1, 13)) for _ in range(rank))
    values = torch.randn(1, 2, *coarse)
    wanted = functional.interpolate(values, out, mode=MODES[rank])
    readout = Readout.linear(coarse, out)
    assert (readout.coarse_shape, readout.shape) == (coarse, out)
    torch.testing.assert_close(readout(values), wanted, atol=1e-5, rtol=0)
    voxels = np.argwhere(np.ones(out))
    cells, weights = readout.weights(voxels, 1)
    summed = weights @ values[0, 1].numpy()[tuple(cells.T)]
    np.testing.assert_allclose(summed, wanted[0, 1].numpy().ravel(), atol=1e-5)


def test_readouts_compose():
    first, second = Readout.linear((5, 4), (9, 11)), Readout.linear((9, 11), (20, 15))
    values = torch.randn(1, 3, 5, 4)
    torch.testing.assert_close(first.then(second)(values), second(first(values)))


def test_classes_may_have_readouts_of_their_own():
    upper, lower = torch.zeros(8, 3), torch.zeros(8, 3)
    upper[:3], lower[5:] = torch.eye(3), torch.eye(3)
    readout = Readout((torch.stack([upper, lower]), torch.eye(4)[None]))
    values = torch.randn(1, 2, 3, 4)
    found = readout(values)[0]
    torch.testing.assert_close(found[0, :3], values[0, 0])
    torch.testing.assert_close(found[1, 5:], values[0, 1])
    assert not found[0, 3:].any()
    assert not found[1, :5].any()
    voxels = np.array([[1, 2], [6, 0], [7, 3]])
    wanted = found[(slice(None), *torch.from_numpy(voxels.T))].T
    torch.testing.assert_close(readout.at(values, voxels, range(2)), wanted)
    torch.testing.assert_close(readout.at(values, voxels, [1]), wanted[:, 1:])
    torch.testing.assert_close(readout.slab(2, 6)(values)[0], found[:, 2:6])
    cells, weights = readout.weights(np.array([[5, 2], [0, 0]]), 1)
    assert cells.tolist() == [[0, 2]]
    assert weights.toarray().tolist() == [[1], [0]]


def by_place(batches, x):
    """Rows in the order in which they come, on the whole grid."""
    found = []
    for batch in batches:
        full = x.new_zeros(len(batch.values), *x.shape[1:])
        full[batch.box.index] = batch.values
        found.append(full)
    return torch.cat(found)


def sorted_rows(found):
    """Rows in an order that depends on their values alone: theirs is a matter of memory."""
    flat = found.flatten(1).double()
    weights = torch.rand(flat.shape[1], generator=torch.Generator().manual_seed(2)).double()
    return found[(flat @ weights).argsort()]


@pytest.mark.parametrize("engine", ["dense", "windowed"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_are_those_of_the_interpolated_logit(engine, batch):
    x, voxels = image(), voxels_of_a_block()
    found = by_place(
        rows(predictor(), x, voxels, class_index=2, engine=make_engine(engine, batch)), x
    )
    wanted = literal_rows(coarse_network(), x, voxels, 2, "logit")
    error = (sorted_rows(found) - sorted_rows(wanted)).abs().max()
    assert error <= 1e-5 * wanted.abs().max()


def test_batches_change_neither_values_nor_order():
    x, voxels = image(), voxels_of_a_block()
    options = {"class_index": 1}
    one, many = (
        by_place(rows(predictor(), x, voxels, engine=make_engine("dense", n), **options), x)
        for n in (1, 7)
    )
    torch.testing.assert_close(one, many, atol=1e-6, rtol=0)


def test_rows_go_on_where_they_stopped():
    x, voxels = image(), voxels_of_a_block()
    options = {"class_index": 1, "engine": make_engine("windowed", 4)}
    whole = by_place(rows(predictor(), x, voxels, **options), x)
    rest = by_place(rows(predictor(), x, voxels, done=33, **options), x)
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
    found = by_place(rows(looking, image(), np.array([[1, 1], [2, 2]]), class_index=0), image())
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
    assert seen == [1]


@pytest.mark.parametrize("score", ["logit", "margin", "probability"])
@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_heat_maps_are_those_of_a_network_that_interpolates_itself(score):
    class Interpolating(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = coarse_network()

        def forward(self, x):
            return functional.interpolate(self.network(x), SIZE, mode="bilinear")

    itself = Interpolating()
    outside = Predictor(itself.network, whole_image(SIZE), readout=Readout.linear((6, 5), SIZE))
    instance = Instance(1, np.argwhere(np.ones((4, 5))) + 7, class_index=1)
    maps = [
        InstanceGradCamPlusPlus(model, itself.network[2], score=score).attribute(
            image(), instance=instance
        )
        for model in (itself, outside)
    ]
    assert maps[0].any()
    torch.testing.assert_close(maps[0], maps[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_coarse_logits_are_interpolated_to_their_window(rank):
    size = (24, 20, 16)[:rank]
    network, x = coarse_network(rank), image(size)
    found = Predictor(network, whole_image(size))(x)
    wanted = functional.interpolate(network(x), size, mode=MODES[rank])
    torch.testing.assert_close(found, wanted)


def test_a_readout_belongs_to_one_window():
    layout = sliding_window((24, 20), (8, 8))
    with pytest.raises(ValueError, match="single window"):
        Predictor(coarse_network(), layout, readout=Readout.linear((2, 2), (9, 9)))
