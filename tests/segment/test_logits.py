"""Which of the tensors that a network returns has its logits."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from segxai.errors import SegxaiError
from segxai.segment.logits import kind_of, logits_of, name_of_logits, tensors_of

FULL, HALF = (16, 12), (8, 6)


def values(channels, shape=FULL, seed=0):
    return torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Record:
    aux: Tensor
    mask_logits: Tensor


CLEAR = {
    "a part named logits": ({"aux": values(2), "logits": values(2)}, None, "logits"),
    "torchvision's": ({"out": values(2), "aux": values(2)}, None, "out"),
    "the only name with logit": (
        {"features": values(6), "seg_logits": values(2)},
        None,
        "seg_logits",
    ),
    "in a record": (Record(values(2), values(2)), None, "mask_logits"),
    "nested": ([{"logits": values(3, HALF)}, values(2)], None, "0.logits"),
    "the largest of several with logit": (
        {"aux_logits": values(2, HALF), "main_logits": values(2), "distance": values(1)},
        None,
        "main_logits",
    ),
    "nnU-Net's list": ([values(2), values(2, HALF)], None, "0"),
    "the finest last": ((values(2, HALF), values(2)), None, "1"),
    "as many channels as classes": ((values(6), values(2)), 2, "1"),
    "no tokens": ((values(2, HALF), torch.randn(1, 96, 768)), None, "0"),
    "no labels": ((values(2).argmax(1, keepdim=True), values(2)), None, "1"),
    "not a score": ((values(2).mean(), values(2)), None, "1"),
}
UNCLEAR = {
    "heads of deep supervision": ([values(2, seed=n) for n in range(4)], 2),
    "a distance map": ((values(1), values(1, seed=1)), 1),
    "softmax beside logits": ((values(2).softmax(1), values(2)), 2),
    "features": ((values(6), values(2)), None),
}


@pytest.mark.parametrize(("output", "classes", "name"), CLEAR.values(), ids=CLEAR)
def test_what_the_author_or_a_shape_says_is_taken(output, classes, name):
    assert name_of_logits(output, classes=classes) == name
    assert logits_of(output, classes=classes) is tensors_of(output)[name]


@pytest.mark.parametrize(("output", "classes"), UNCLEAR.values(), ids=UNCLEAR)
def test_where_the_choice_is_not_clear_it_is_the_users(output, classes):
    with pytest.raises(SegxaiError, match=r"may be its logits: 0 \(1 x .*say which.* output$"):
        logits_of(output, classes=classes)
    for which in (1, "1"):
        assert logits_of(output, which, classes) is output[1]


def test_the_list_of_choices_tells_probabilities():
    output = (values(2).softmax(1), values(2))
    with pytest.raises(
        SegxaiError,
        match=r"0 \(1 x 2 x 16 x 12, probabilities that sum to 1\), 1 \(1 x 2 x 16 x 12\);",
    ):
        logits_of(output)


def test_a_tensor_is_named_by_its_path_or_its_number():
    output = {"heads": (values(2), values(2, seed=1)), "aux": [{"one": values(3)}]}
    found = tensors_of(output)
    assert list(found) == ["heads.0", "heads.1", "aux.0.one"]
    for number, name in enumerate(found):
        assert logits_of(output, number) is logits_of(output, str(number)) is found[name]
        assert logits_of(output, name) is found[name]
    with pytest.raises(SegxaiError, match=r"output=3: .* no such tensor; known: heads\.0 \(1 x 2"):
        logits_of(output, 3)
    with pytest.raises(SegxaiError, match=r"output=head: "):
        logits_of(output, "head")


KINDS = {
    "logits": values(3),
    "probabilities": values(3).softmax(1),
    "unit interval": values(3).sigmoid(),
    "log-probabilities": values(3).log_softmax(1),
}


@pytest.mark.parametrize(("kind", "found"), KINDS.items(), ids=KINDS)
def test_values_are_told_from_what_they_add_up_to(kind, found):
    assert kind_of(found) == kind
    assert kind_of(found.half()) == kind
    nearly = found.clone()
    nearly[0, 0, 3, 4] += 1.5  # one voxel is enough
    assert kind_of(nearly) == "logits"


def test_a_single_output_has_no_classes_to_add_up():
    assert kind_of(values(1).sigmoid()) == "unit interval"
    assert kind_of(torch.ones(1, 1, *FULL)) == "unit interval"
    assert kind_of(torch.zeros(1, 1, *FULL).log_softmax(1) - 1) == "logits"
    assert kind_of(torch.empty(0, 2, *FULL)) == "logits"
