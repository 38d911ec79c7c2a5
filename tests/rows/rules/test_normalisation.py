"""Normalisation by frozen statistics keeps rows on their box."""

import pytest
import torch
from hypothesis import given
from torch import nn

from segxai.geometry import Box
from segxai.rows.cotangent import RULES, Tape
from tests import literal
from tests.networks import image_of
from tests.rows.rules.boxes import (
    agree,
    box_by,
    compare,
    examples,
    fractions,
    random_cotangent,
)

NATIVE = torch.ops.aten.native_batch_norm_backward.default
CUDNN = torch.ops.aten.cudnn_batch_norm_backward.default


@pytest.mark.parametrize("affine", [True, False])
@examples(10)
@given(where=fractions)
def test_frozen_batch_norm(affine, where):
    layer = literal.seeded(nn.BatchNorm3d(3, affine=affine)).requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)), box_by(where)))


def test_instance_norm_on_a_gpu_has_the_adjoint_of_that_on_a_cpu():
    """Its operation has other arguments, and runs on a GPU only; its rule runs here, too."""
    image, weight = image_of((3, 6, 5)), torch.tensor([0.5, -2.0, 1.5])
    mean = image.mean(dim=(2, 3)).flatten()
    inverse = torch.rsqrt(image.var(dim=(2, 3), unbiased=False).flatten() + 1e-5)
    found = {}
    for device, operation in (("cpu", NATIVE), ("gpu", CUDNN)):
        grad = random_cotangent((1, 3, 6, 5), Box((1, 2), (3, 2)))
        grad.tape = Tape(exact=False)
        own = (weight, None, None, mean, inverse)
        if device == "cpu":
            result = RULES[operation](
                operation, grad, image, *own, True, 1e-5, (True, False, False)
            )
        else:
            result = RULES[operation](operation, image, grad, *own, 1e-5, None)
            assert [one.tolist() for one in result[1:]] == [[0, 0, 0], [0, 0, 0]]
        found[device] = result[0].dense(), torch.cat(grad.tape.left_out, dim=1)
    for ours, theirs in zip(*found.values(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.any()
    grad.tape = Tape(exact=True)
    assert RULES[CUDNN](CUDNN, image, grad, *own, 1e-5, None) is NotImplemented
