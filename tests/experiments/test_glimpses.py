"""Glimpses: a part of a window gives the same logits, and is taken only where it does."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from segxai.experiments.glimpses import blended, glimpses_of, gradient_of_mean
from segxai.rows.scores import SCORES
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image

VOXELS = np.array([[30, 31], [30, 32], [31, 32]])


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def plain():
    return network(nn.Conv2d(2, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))


def strided(step):
    down = nn.Conv2d(2, 4, step, stride=step)
    return network(down, nn.ReLU(), nn.ConvTranspose2d(4, 2, step, stride=step))


def found(network, layout, *, seed=1):
    predictor, generator = Predictor(network, layout), torch.Generator().manual_seed(seed)
    image = torch.randn(1, 2, *layout.shape, generator=generator)
    with frozen(network):
        glimpses = glimpses_of(predictor, image, VOXELS)
        other = torch.randn(image.shape, generator=generator)  # not the image that was looked at
        with torch.no_grad():
            wanted = predictor(other)[0][:, VOXELS[:, 0], VOXELS[:, 1]].T
        return glimpses, blended(glimpses, other), wanted


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_the_gradient_is_that_of_the_blended_prediction(score):
    model, layout = plain(), sliding_window((96, 96), (48, 48), 0.5)
    predictor, image = Predictor(model, layout), torch.randn(1, 2, 96, 96)
    function = partial(SCORES[score], class_index=1)
    with frozen(model):
        glimpses = glimpses_of(predictor, image, VOXELS)
        assert len(glimpses) > 1
        found = gradient_of_mean(glimpses, image, function)
        leaf = image.clone().requires_grad_()
        logits = predictor(leaf)[0][:, VOXELS[:, 0], VOXELS[:, 1]].T
        wanted = torch.autograd.grad(function(logits).mean(), leaf)[0]
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    "layout",
    [whole_image((96, 96)), sliding_window((96, 96), (48, 48)), sliding_window((40, 40), (48, 48))],
    ids=["whole", "windows", "padded"],
)
@pytest.mark.parametrize("make", [plain, lambda: strided(4)], ids=["plain", "strided"])
def test_logits_are_those_of_the_whole_image(make, layout):
    glimpses, logits, wanted = found(make(), layout)
    assert len(glimpses) == sum(window.contains(VOXELS).any() for window in layout.windows)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


def test_a_part_is_as_large_as_the_receptive_field_in_whole_steps():
    (one,), _, _ = found(plain(), whole_image((96, 96)))
    # The voxels, 3 more at each side, in steps of 16.
    assert (one.box.start, one.box.stop) == ((16, 16), (48, 48))


def test_the_whole_window_is_taken_where_a_part_would_give_other_logits():
    (one,), logits, wanted = found(strided(3), whole_image((96, 96)))  # 16 is no step of 3
    assert one.box.size == (96, 96)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)
    spread = network(nn.Conv2d(2, 2, 3, padding=1), nn.InstanceNorm2d(2))
    (one,), logits, wanted = found(spread, whole_image((96, 96)))
    assert one.box.size == (96, 96)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)
