"""Several aggregators and scores from the same rows: each as if it were computed alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from segxai.methods.gradient import gradient, gradients_together
from segxai.methods.noise import draw_noise
from segxai.methods.smoothgrad import smoothgrad, smoothgrads_together
from segxai.methods.together import Together, group_pairs
from segxai.plugins.registry import load_aggregator
from segxai.rows.scores import SCORES, base_of, cotangents, scale_of
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout
from segxai.segment.windows import sliding_window, whole_image
from tests.asked import Asked
from tests.literal import seeded
from tests.networks import block, image_of

SHAPE = (20, 18)
MEAN, MAX = load_aggregator("mean"), load_aggregator("signed_max")
NOISE = (0.3, 0.2)


def network(classes):
    """Two layers, so that rows differ between voxels and noisy copies."""
    layers = (nn.Conv2d(2, 5, 3, padding=1), nn.Softplus(), nn.Conv2d(5, classes, 3, padding=1))
    return seeded(nn.Sequential(*layers))


def predictor_of(classes, activation="softmax", window=None):
    layout = whole_image(SHAPE) if window is None else sliding_window(SHAPE, window)
    return Predictor(network(classes), layout, activation=activation)


def pairs_of(scores):
    return [(aggregator, score) for aggregator in (MEAN, MAX) for score in scores]


@pytest.mark.parametrize("window", [None, (12, 12)])
@pytest.mark.parametrize(
    ("classes", "activation", "scores"),
    [
        (1, "softmax", ("logit", "margin", "probability")),
        (3, "sigmoid", ("logit", "margin", "probability")),
        (2, "softmax", ("margin", "probability")),
    ],
)
@pytest.mark.parametrize("smooth", [False, True])
def test_each_map_is_the_one_computed_alone(classes, activation, scores, window, smooth):
    predictor = predictor_of(classes, activation, window)
    image, instance = image_of((2, *SHAPE)), block(SHAPE, (8, 6), (3, 4), class_index=classes - 1)
    folds = tuple(pairs_of(scores))
    asked = Asked(samples=3, noise_levels=NOISE)
    together = Together(folds, base_of(scores[0], classes, activation))
    several = smoothgrads_together if smooth else gradients_together
    found = several(predictor, image, instance, together, *asked)
    for (aggregator, score), one in zip(folds, found, strict=True):
        single = replace(asked, aggregator=aggregator, score=score)
        wanted = (smoothgrad if smooth else gradient)(predictor, image, instance, *single)
        scale = np.abs(wanted.values).max()
        assert scale > 0
        whole, other = one.on_grid(SHAPE), wanted.on_grid(SHAPE)
        assert np.abs(whole - other).max() <= 1e-5 * scale
        if smooth:
            wanted_error = wanted.facts["standard_error_of_peak"]
            assert one.facts["standard_error_of_peak"] == pytest.approx(wanted_error, rel=1e-3)


def test_rows_of_a_probability_are_scaled_at_each_voxel_and_copy():
    """Against a literal loop over copies and voxels, by autograd through the sigmoid."""
    predictor = predictor_of(1)
    image, instance = image_of((2, *SHAPE)), block(SHAPE, (8, 6), (2, 2), class_index=0)
    asked = Asked(samples=2, noise_levels=NOISE, seed=5)
    together = Together(((MAX, "logit"), (MAX, "probability")), "logit")
    found = smoothgrads_together(predictor, image, instance, together, *asked)[1].on_grid(SHAPE)
    total = torch.zeros(2, *SHAPE)
    for copy in range(2):
        noise = np.stack([draw_noise(5, copy, channel, SHAPE) for channel in range(2)])
        level = torch.tensor(NOISE)[:, None, None]
        leaf = (image + level * torch.from_numpy(noise)).requires_grad_()
        chosen = torch.sigmoid(predictor(leaf)[0, 0])[tuple(instance.voxels.T)]
        rows = torch.stack(
            [torch.autograd.grad(one, leaf, retain_graph=True)[0][0] for one in chosen]
        )
        total += rows.gather(0, rows.abs().argmax(dim=0, keepdim=True))[0] / 2
    assert np.abs(found - total.numpy()).max() <= 1e-5 * float(total.abs().max())


@pytest.mark.parametrize(
    ("classes", "activation"), [(1, "softmax"), (2, "softmax"), (4, "sigmoid")]
)
@pytest.mark.parametrize("score", SCORES)
def test_a_score_is_its_base_times_its_scale(classes, activation, score):
    logits = torch.randn(7, classes, generator=torch.Generator().manual_seed(0))
    index = classes - 1
    base = cotangents(base_of(score, classes, activation), logits, index, activation)
    scale = scale_of(score, logits, index, activation)
    wanted = cotangents(score, logits, index, activation)
    torch.testing.assert_close(base * scale[:, None], wanted)


def groups(scores, classes, aggregators=(MEAN, MAX), activation="softmax", **options):
    pairs = [(aggregator, score) for aggregator in aggregators for score in scores]
    asked = replace(Asked().options, **options)
    return group_pairs(pairs, asked, predictor_of(max(classes, 1), activation), classes)


def test_which_pairs_share_their_rows():
    both = ("logit", "probability")
    assert groups(both, 1) == [[0, 1, 2, 3]]
    assert groups(both, 3, activation="sigmoid") == [[0, 1, 2, 3]]
    assert groups(both, 2) == [[0, 2], [1, 3]]
    assert groups(("logit", "margin", "probability"), 2) == [[0, 3], [1, 2, 4, 5]]
    assert groups(both, 3) == [[0, 2], [1, 3]]
    assert groups(both, 1, aggregators=(MEAN,)) == [[0], [1]]


def test_which_pairs_do_not():
    alone = [[0], [1], [2], [3]]
    both = ("logit", "probability")
    assert groups(both, 1, rows=5) == alone
    auto = replace(Asked().options.noise, samples="auto")
    assert groups(both, 1, noise=auto) == alone
    fine = Readout.linear((4, 4), (8, 8))
    predictor = Predictor(network(1), whole_image((4, 4)), readout=fine)
    pairs = [(aggregator, score) for aggregator in (MEAN, MAX) for score in both]
    assert group_pairs(pairs, Asked().options, predictor, 1) == alone


def test_rows_are_computed_once(monkeypatch):
    predictor = predictor_of(1)
    image, instance = image_of((2, *SHAPE)), block(SHAPE, (8, 6), (3, 4), class_index=0)
    made, grad = [], torch.autograd.grad

    def counted(outputs, inputs, *rest, **more):
        if inputs.ndim > 2:
            made.append(len(rest[0].rows) if hasattr(rest[0], "rows") else 1)
        return grad(outputs, inputs, *rest, **more)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    folds = tuple(pairs_of(("logit", "probability")))
    gradients_together(predictor, image, instance, Together(folds, "logit"), *Asked())
    together = sum(made)
    made.clear()
    gradient(predictor, image, instance, *Asked(aggregator=MAX))
    assert together == sum(made)
