"""The number that is explained: a mean, the contrast across a border, or that of two classes."""

import numpy as np
import pytest
import torch

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.rows.instance_score import InstanceScore
from segxai.rows.scores import SCORES
from segxai.rows.weighted_score import WeightedScore
from segxai.types import Instance
from tests import literal
from tests.captum_plugin.subjects import SUBJECTS
from tests.networks import block, image_of, net2d

SHAPE = (7, 8)


def shells(mask):
    """Voxels on either side of a border, one pair of neighbours after the other."""
    inner, outer = set(), set()
    for voxel in np.ndindex(mask.shape):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                other = tuple(v + step * (a == axis) for a, v in enumerate(voxel))
                if not all(0 <= v < n for v, n in zip(other, mask.shape, strict=True)):
                    continue
                if mask[voxel] and not mask[other]:
                    inner.add(voxel)
                    outer.add(other)
    return inner, outer


@pytest.mark.parametrize(
    ("start", "size"), [((2, 2), (4, 3)), ((0, 0), (3, 8)), ((3, 5), (1, 1)), ((1, 0), (6, 4))]
)
def test_the_border_is_the_mean_inside_it_minus_the_mean_outside(start, size):
    mask = block(SHAPE, start, size).mask(SHAPE)
    inner, outer = shells(mask)
    found = WeightedScore.of(Instance.from_mask(mask), SHAPE, contrast="border")
    weights = {
        tuple(v): float(w) for v, w in zip(found.voxels.tolist(), found.weights, strict=True)
    }
    assert weights == pytest.approx(
        {**dict.fromkeys(inner, 1 / len(inner)), **dict.fromkeys(outer, -1 / len(outer))}
    )
    logits = image_of((3, *SHAPE))[0]
    values = logits[1].numpy()
    wanted = np.mean([values[v] for v in inner]) - np.mean([values[v] for v in outer])
    at = logits[(slice(None), *torch.from_numpy(found.voxels.T))].T
    assert float(found.value(at)) == pytest.approx(float(wanted), abs=1e-6)


def test_a_border_in_3d_and_its_place_on_a_crop():
    mask = block((5, 6, 4), (1, 2, 0), (3, 3, 2)).mask((5, 6, 4))
    inner, outer = shells(mask)
    found = WeightedScore.of(Instance.from_mask(mask), mask.shape, contrast="border")
    assert {tuple(v) for v in found.voxels.tolist()} == inner | outer
    moved = found.seen_from(Box((0, 1, 0), (5, 5, 4)))
    assert np.array_equal(moved.voxels, found.voxels - [0, 1, 0])


def test_a_domain_without_a_border_is_refused():
    with pytest.raises(SegxaiError, match="instance 1 fills the image and has no border"):
        WeightedScore.of(Instance.from_mask(np.ones(SHAPE, bool)), SHAPE, contrast="border")


def test_a_class_is_not_compared_with_itself_or_with_one_that_is_not_there():
    instance = block(SHAPE, (2, 2), (2, 2))
    with pytest.raises(SegxaiError, match="instance 1 is of class 1 itself"):
        WeightedScore.of(instance, SHAPE, contrast=1)
    with pytest.raises(SegxaiError, match="no class 7: the network has 3 classes, 0 to 2"):
        InstanceScore(net2d(), instance, contrast=7)(image_of((3, 12, 10)))


@pytest.mark.parametrize("contrast", [None, "border", 0])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", SUBJECTS)
def test_the_gradient_by_windows_is_that_of_the_score(name, score, contrast):
    subject = SUBJECTS[name]()
    number = subject.score(score, contrast)
    leaf = subject.image.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(number(leaf).sum(), leaf)
    assert literal.worst(number.gradient(subject.image), wanted) < 1e-5
    local, box = number.cropped(subject.image)
    assert literal.worst(local.gradient(subject.image[box.index]), wanted[box.index]) < 1e-5


@pytest.mark.parametrize("score", SCORES)
def test_the_contrast_of_a_class_is_the_difference_of_two_means(score):
    model, image, instance = net2d(), image_of((3, 12, 10)), block((12, 10), (3, 3), (3, 2))
    logits = model(image)[0].flatten(1).T
    inside = torch.from_numpy(instance.mask((12, 10)).ravel())
    wanted = (SCORES[score](logits, 1) - SCORES[score](logits, 2))[inside].mean()
    found = InstanceScore(model, instance, score, contrast=2)(image)
    assert torch.allclose(found, wanted)
