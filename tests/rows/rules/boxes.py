"""Rows of a function on a box and dense rows, compared: what all tests of the rules share."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

import segxai.rows.rules  # noqa: F401  # registers the rules
from segxai.geometry import Box
from segxai.rows.cotangent import Cotangent

TOLERANCE = 1e-5
whole = st.integers
fractions = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3)
MIDDLE = [(0.4, 0.2)] * 3


def examples(count):
    """Settings of a test that draws the same examples every time."""
    return settings(deadline=None, derandomize=True, max_examples=count)


def random_cotangent(shape, box, rows=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Cotangent(torch.randn(rows, shape[1], *box.size, generator=generator), box.start, shape)


def compare(function, image, box):
    """The rows that a function's backward pass makes of a cotangent on a box, and dense ones."""
    leaf = image.clone().requires_grad_()
    output = function(leaf)
    grad = random_cotangent(output.shape, box(output.shape[2:]))
    (found,) = torch.autograd.grad(output, leaf, grad, retain_graph=True)
    wanted = torch.stack(
        [torch.autograd.grad(output, leaf, row, retain_graph=True)[0] for row in grad.dense()]
    )
    return found, wanted


def agree(found, wanted, *, on_box=True, tight=False):
    """They agree; rows are on a box if they should be, and tight on none that is too large."""
    assert isinstance(found, Cotangent)
    assert found.shape == wanted.shape[1:]
    assert (found.start is not None) == on_box
    scale = float(wanted.abs().max()) or 1.0
    assert float((found.dense() - wanted).abs().max()) <= TOLERANCE * scale
    if tight and wanted.any():
        used = wanted[:, 0].abs().sum(dim=(0, 1)).nonzero().numpy()
        first, last = used.min(axis=0), used.max(axis=0)
        assert found.box == Box(tuple(first.tolist()), tuple((last - first + 1).tolist()))


def box_by(fractions):
    """A box on any grid, from fractions of its extent."""

    def make(grid):
        spans = []
        for index, size in enumerate(grid):
            a, b = fractions[index % len(fractions)]
            first = min(int(a * size), size - 1)
            spans.append((first, max(int(b * (size - first)), 1)))
        return Box(tuple(s for s, _ in spans), tuple(n for _, n in spans))

    return make


def in_each_axis(draw, axes, low, high):
    return tuple(draw(whole(low, high)) for _ in range(axes))
