"""Parts of a tensor, and tensors side by side: rows keep to a box, in another place."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from segxai.geometry import Box
from tests.networks import image_of
from tests.rows.rules.boxes import (
    MIDDLE,
    agree,
    box_by,
    compare,
    examples,
    fractions,
    in_each_axis,
    random_cotangent,
    whole,
)


@examples(40)
@given(data=st.data(), where=fractions, axes=whole(1, 3))
def test_slices(data, where, axes):
    shape = (4, *in_each_axis(data.draw, axes, 5, 8))
    spans = [
        slice(data.draw(whole(-5, 3)), data.draw(st.sampled_from([None, 4, 5, -1])), step)
        for step in in_each_axis(data.draw, 1 + axes, 1, 3)
    ]
    image = image_of(shape)
    if functional.relu(image)[(slice(None), *spans)].numel():
        agree(*compare(lambda x: x.relu()[(slice(None), *spans)], image, box_by(where)))


@examples(20)
@given(where=fractions, axis=whole(1, 3))
def test_parts_that_are_put_together_in_another_order(where, axis):
    image = image_of((6, 6, 7, 5)[: axis + 2])
    for function in (
        lambda x: torch.cat([*reversed(x.chunk(3, axis))], dim=axis),
        lambda x: torch.cat([x.narrow(axis, 1, 3).relu(), 2 * x, x.tanh()], dim=axis),
        lambda x: x.split([1, x.shape[axis] - 1], axis)[1],
        lambda x: x.flip(axis) + x.flip([1, 2]),
    ):
        agree(*compare(function, image, box_by(where)))


@examples(10)
@given(where=fractions, index=whole(-4, 3))
def test_one_of_many(where, index):
    image = image_of((4, 5, 6, 7))
    agree(*compare(lambda x: x[:, :, :, index], image, box_by(where)), tight=True)
    agree(*compare(lambda x: x[:, index][:, None], image, box_by(where)))
    agree(*compare(lambda x: x[:, [2, index, 2]], image, box_by(where)))


def test_the_largest_of_all_channels():
    image = image_of((5, 6, 9))
    for largest in (
        lambda x: x.max(dim=1, keepdim=True).values,
        lambda x: x.amax(dim=1, keepdim=True),
        lambda x: torch.cat([x.mean(dim=1, keepdim=True), x.max(dim=1)[0][:, None]], dim=1),
    ):
        agree(*compare(largest, image, box_by(MIDDLE)))


@examples(40)
@given(
    where=fractions,
    pads=st.lists(whole(0, 3), min_size=2, max_size=8).filter(lambda p: len(p) % 2 == 0),
)
def test_padding_with_zeros(where, pads):
    agree(*compare(lambda x: functional.pad(x.relu(), pads), image_of((2, 5, 4, 6)), box_by(where)))


@examples(60)
@given(data=st.data(), where=fractions)
def test_slices_of_a_cotangent_itself(data, where):
    """As the backward pass of a concatenation takes them, and with steps."""
    grad = random_cotangent((1, 4, 7, 8), box_by(where)((7, 8)))
    spans = [
        slice(data.draw(whole(0, 3)), data.draw(whole(4, 9)), step)
        for step in in_each_axis(data.draw, 3, 1, 3)
    ]
    found = grad[(slice(None), *spans)]
    assert found.start is not None
    assert torch.equal(found.dense(), grad.dense()[(slice(None), slice(None), *spans)])


def test_a_concatenation_is_taken_apart_on_the_box_alone():
    agree(*compare(lambda x: torch.cat([x, x.relu()], 2), image_of((3, 6, 8)), box_by(MIDDLE)))
    upper = lambda x: torch.cat([x, torch.ones_like(x)], 2)  # noqa: E731
    agree(*compare(upper, image_of((3, 6, 8)), box_by([(0.7, 0.1)] * 3)))  # in the ones


def test_what_is_put_beside_or_into_values_is_left_to_the_dense_way():
    """Rules are sure of zeros only: a cotangent that meets other values is dense."""
    grad = random_cotangent((1, 2, 4, 4), Box((1, 1), (2, 2)))
    other = image_of((2, 4, 4))
    beside = torch.cat([grad, other], dim=1)
    assert beside.start is None
    wanted = torch.cat([grad.dense(), other.expand(3, 1, 2, 4, 4)], dim=2)
    assert torch.equal(beside.dense(), wanted)
    source = random_cotangent((1, 1, 4, 4), Box((1, 2), (2, 2)), seed=1)
    index = torch.ones(1, 1, 4, 4, dtype=torch.long)
    into = grad.scatter(1, index, source)
    assert into.start is None
    wanted = grad.dense().scatter(2, index.expand(3, 1, 1, 4, 4), source.dense())
    assert torch.equal(into.dense(), wanted)
    plain = other.scatter(1, index, source)
    assert plain.start is None
    wanted = other.expand(3, 1, 2, 4, 4).scatter(2, index.expand(3, 1, 1, 4, 4), source.dense())
    assert torch.equal(plain.dense(), wanted)
