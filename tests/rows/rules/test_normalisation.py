"""Normalisation by frozen statistics keeps rows on their box."""

import pytest
from hypothesis import given
from torch import nn

from tests import literal
from tests.networks import image_of
from tests.rows.rules.boxes import agree, box_by, compare, examples, fractions


@pytest.mark.parametrize("affine", [True, False])
@examples(10)
@given(where=fractions)
def test_frozen_batch_norm(affine, where):
    layer = literal.seeded(nn.BatchNorm3d(3, affine=affine)).requires_grad_(False)
    agree(*compare(layer, image_of((3, 6, 5, 7)), box_by(where)))
