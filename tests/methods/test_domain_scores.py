"""Domain scores: how far the score of a domain spreads over noisy copies."""

from dataclasses import replace
from math import nan, sqrt
from statistics import stdev

import numpy as np
import pytest
import torch
from torch import nn

from segxai.methods.domain_scores import DomainScores
from segxai.methods.noise import draw_noise
from segxai.methods.smoothgrad import smoothgrad, smoothgrads_together
from segxai.methods.together import Together
from segxai.plugins.registry import load_aggregator
from segxai.rows.sampling import sample_rows
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import Counting, block, image_of

LEVELS, COPIES, SEED = (0.3, 0.1), 4, 4
FLAT = (20, 18)


def noise_of(copy, shape):
    channels = [s * draw_noise(SEED, copy, c, shape) for c, s in enumerate(LEVELS)]
    return torch.from_numpy(np.stack(channels))[None]


def asked(aggregator="mean", **more):
    settings = Asked(load_aggregator(aggregator), samples=COPIES, noise_levels=LEVELS, seed=SEED)
    return replace(settings, **more)


def deviation(predictor, image, instance, settings):
    return smoothgrad(predictor, image, instance, *settings).facts["score_deviation"]


@pytest.fixture(scope="module")
def windowed():
    """A network in overlapping windows, several of which see the domain."""
    network = literal.seeded(literal.Net2d(channels=2, classes=2))
    predictor = Predictor(network, sliding_window(FLAT, (12, 12), 0.5))
    instance = block(FLAT, (8, 8), (4, 3))
    assert len(predictor.crop_to(instance.voxels)[0].layout.windows) > 2
    return predictor, image_of((2, *FLAT)), instance


def literal_deviation(predictor, image, instance, score, copies=COPIES):
    """The whole prediction of each copy, one after the other."""
    found = []
    for copy in range(copies):
        with torch.no_grad():
            logits = predictor(image + noise_of(copy, image.shape[2:]))[0]
        values = logits.softmax(dim=0) if score == "probability" else logits
        inside = [float(values[(instance.class_index, *voxel)]) for voxel in instance.voxels]
        found.append(sum(inside) / len(inside))
    return stdev(found)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
def test_of_a_linear_network_it_is_that_of_the_noise_times_the_gradient(aggregator, antithetic):
    model = literal.seeded(nn.Conv2d(2, 2, 5, padding=2))
    image, instance = image_of((2, *FLAT)), block(FLAT, (9, 8), (2, 3))
    gradient = literal.mean(literal.rows(model, image, instance.voxels))
    copies = 6
    moved = [float((gradient * noise_of(n, FLAT)[0]).sum()) for n in range(copies)]
    if antithetic:
        moved = [sign * moved[n] for n in range(copies // 2) for sign in (1, -1)]
    settings = asked(aggregator, samples=copies, antithetic=antithetic)
    found = deviation(Predictor(model, whole_image(FLAT)), image, instance, settings)
    assert found == pytest.approx(stdev(moved), rel=1e-4)


def test_many_copies_come_to_the_known_variance_of_a_linear_network():
    model = literal.seeded(nn.Conv2d(2, 2, 3, padding=1))
    image, instance = image_of((2, *FLAT)), block(FLAT, (9, 8), (2, 3))
    gradient = literal.mean(literal.rows(model, image, instance.voxels))
    wanted = sqrt(
        sum((s * one).square().sum().item() for s, one in zip(LEVELS, gradient, strict=True))
    )
    found = deviation(Predictor(model, whole_image(FLAT)), image, instance, asked(samples=400))
    assert found == pytest.approx(wanted, rel=4 / sqrt(2 * 400))  # four standard errors


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
def test_it_is_that_of_a_literal_loop_over_copies(windowed, aggregator, score):
    wanted = literal_deviation(*windowed, score)
    found = [deviation(*windowed, asked(aggregator, score=score, batch=n)) for n in (1, 5)]
    assert found[0] == pytest.approx(wanted, rel=1e-4)
    assert found[0] == found[1]


def test_scores_that_share_their_rows_have_each_their_own(windowed):
    folds = tuple(
        (load_aggregator(name), score)
        for name in ("mean", "signed_max")
        for score in ("probability", "logit")
    )
    maps = smoothgrads_together(*windowed, Together(folds, "logit"), *asked())
    for one, (_, score) in zip(maps, folds, strict=True):
        wanted = literal_deviation(*windowed, score)
        assert one.facts["score_deviation"] == pytest.approx(wanted, rel=1e-4)


def test_a_sample_of_rows_leaves_it_that_of_the_whole_domain(windowed):
    predictor, image, instance = windowed
    sampled = sample_rows(instance, 3, 0, (1.0, 1.0))
    assert len(sampled.row_voxels) < len(instance.voxels)
    found = deviation(predictor, image, sampled, asked("signed_max"))
    assert found == pytest.approx(literal_deviation(predictor, image, instance, "logit"), rel=1e-4)


def test_it_takes_no_forward_passes_of_its_own(windowed):
    predictor, image, instance = windowed
    network = Counting(predictor.network)
    counted = Predictor(network, predictor.layout)
    needed = COPIES * len(predictor.crop_to(instance.voxels)[0].layout.windows)
    settings = asked("signed_max", engine="windowed", batch=4)
    deviation(counted, image, instance, settings)
    assert network.passes == needed
    folds = tuple((load_aggregator("signed_max"), score) for score in ("logit", "probability"))
    smoothgrads_together(counted, image, instance, Together(folds, "logit"), *settings)
    assert network.passes == 2 * needed


def test_a_single_copy_has_none():
    predictor = Predictor(literal.seeded(nn.Conv2d(2, 2, 3, padding=1)), whole_image(FLAT))
    image, instance = image_of((2, *FLAT)), block(FLAT, (4, 3), (2, 2))
    assert deviation(predictor, image, instance, asked(samples=1)) is None
    assert deviation(predictor, image, instance, asked(samples=2)) > 0


def test_where_a_copy_is_missing_or_not_finite_there_is_none():
    scores = DomainScores(("logit", "probability"))
    scores.values = [[1.0, 0.5], [3.0, nan]]
    assert scores.deviation("logit", 2) == pytest.approx(sqrt(2))
    assert scores.deviation("logit", 3) is None  # an older version made the first
    assert scores.deviation("probability", 2) is None
