"""Wrapping a network: its classes are counted, or named."""

import pytest
from torch import nn

import segxai as public
from segxai.errors import SegxaiError
from tests.toy.segxai_toy import Toy


def test_wrapping_needs_something_to_count_classes_on():
    with pytest.raises(SegxaiError, match="window"):
        public.wrap(Toy(), channels=("bright", "other"))
    assert public.wrap(Toy(), channels=("a", "b"), classes=("rest", "ball")).predict.divisor == 1


def test_one_logit_is_one_class():
    network = nn.Conv2d(1, 1, 3, padding=1)
    with pytest.raises(SegxaiError, match="one class"):
        public.wrap(network, channels=["grey"], classes=["background", "lesion"], shape=(8, 8))
    assert public.wrap(network, channels=["grey"], shape=(8, 8)).classes == ("class 0",)
