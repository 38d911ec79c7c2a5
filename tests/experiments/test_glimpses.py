"""Glimpses: a part of a window gives the same logits, and is taken only where it does."""

import numpy as np
import pytest
import torch
from torch import nn

from segxai.experiments.glimpses import blended, glimpses_of, gradients_of_means
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


@pytest.mark.parametrize(
    ("layout", "windows", "passes"),
    [(sliding_window((96, 96), (48, 48), 0.5), 4, 8), (whole_image((96, 96)), 1, 1)],
    ids=["windows", "lone window"],
)
def test_gradients_are_those_of_the_blended_prediction(layout, windows, passes):
    model, scores, counted = plain(), ("logit", "probability"), []
    predictor, image = Predictor(model, layout), torch.randn(1, 2, 96, 96)
    with frozen(model):
        glimpses = glimpses_of(predictor, image, VOXELS)
        assert len(glimpses) == windows
        hook = model.register_forward_hook(lambda *_: counted.append(1))
        found, blend = gradients_of_means(glimpses, image, scores, 1)
        hook.remove()
        assert len(counted) == passes  # whatever the number of scores
        leaf = image.clone().requires_grad_()
        logits = predictor(leaf)[0][:, VOXELS[:, 0], VOXELS[:, 1]].T
        torch.testing.assert_close(blend, logits.detach())
        for score, one in zip(scores, found, strict=True):
            mean = SCORES[score](logits, 1).mean()
            wanted = torch.autograd.grad(mean, leaf, retain_graph=True)[0]
            torch.testing.assert_close(one, wanted, atol=1e-7, rtol=1e-5)


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
