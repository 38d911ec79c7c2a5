"""Readouts: linear ones are interpolation, several compose, and each class may have its own."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segxai.segment.readout import Readout

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


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


def test_weights_below_zero_count():
    """Bicubic interpolation overshoots."""
    unit = torch.eye(5)[None, :, :, None]
    matrix = functional.interpolate(unit, (13, 1), mode="bicubic")[0, :, :, 0].T
    assert (matrix < 0).any()
    readout = Readout((matrix[None], matrix[None]))
    values, voxels = torch.randn(1, 1, 5, 5), np.argwhere(np.ones((13, 13)))
    wanted = functional.interpolate(values, (13, 13), mode="bicubic")[0, 0]
    torch.testing.assert_close(readout(values)[0, 0], wanted)
    cells, weights = readout.weights(voxels, 0)
    summed = weights @ values[0, 0].numpy()[tuple(cells.T)]
    np.testing.assert_allclose(summed, wanted.numpy().ravel(), atol=1e-5)


def test_the_adjoint_is_the_transposed_matrix():
    upper, lower = torch.rand(8, 3), torch.rand(8, 3)
    readout = Readout((torch.stack([upper, lower]), torch.rand(1, 5, 4)))
    voxels = np.array([[1, 2], [6, 0], [7, 3]])
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])
    found = readout.adjoint(voxels, weights, (1, 2, 3, 4))
    for index in range(2):
        cells, matrix = readout.weights(voxels, index)
        wanted = np.zeros((3, 4))
        wanted[tuple(cells.T)] = matrix.T @ weights[:, index].numpy()
        np.testing.assert_allclose(found[0, index], wanted, rtol=1e-5, atol=1e-6)
