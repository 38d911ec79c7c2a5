"""Methods of gradients: Captum's own on the whole prediction, and their laws."""

from dataclasses import replace

import captum.attr
import numpy as np
import pytest
import torch

from segxai import Instance, SegxaiError, SegxaiWarning, draw_noise
from tests import literal
from tests.captum_plugin.subjects import SUBJECTS, assert_same, fingerprint, flat, read_out, solid
from tests.networks import net2d

TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks")


@pytest.fixture(params=SUBJECTS.values(), ids=SUBJECTS)
def subject(request):
    return request.param()


def leaf(subject):
    return subject.image.clone().requires_grad_()


# ------------------------------------------------------------ Captum's own, on the whole prediction


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.filterwarnings("ignore:integrated gradients sum to")
def test_integrated_gradients_are_captums(subject, score):
    found, attribution = subject.explain("integrated_gradients", score=score, steps=6)
    theirs = captum.attr.IntegratedGradients(subject.score(score))
    wanted = theirs.attribute(subject.image, n_steps=6)[0]
    assert literal.worst(found, wanted.detach()) < TOLERANCE
    assert attribution.unit == "score"


@pytest.mark.parametrize("score", ["logit", "margin"])
def test_input_x_gradient_is_captums(subject, score):
    found, attribution = subject.explain("input_x_gradient", score=score)
    wanted = captum.attr.InputXGradient(subject.score(score)).attribute(leaf(subject))[0]
    assert literal.worst(found, wanted.detach()) < TOLERANCE
    assert attribution.facts["above_0"].startswith("the voxel's difference from 0 raises")


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_guided_backpropagation_is_captums(score):
    for subject in (flat(), read_out()):
        found, attribution = subject.explain("guided_backprop", score=score)
        wanted = captum.attr.GuidedBackprop(subject.score(score)).attribute(leaf(subject))[0]
        plain = captum.attr.Saliency(subject.score(score)).attribute(leaf(subject), abs=False)[0]
        assert literal.worst(found, wanted) < TOLERANCE
        assert literal.worst(plain, wanted) > 0.1
        assert attribution.unit == "score per input"


def test_gradient_shap_is_captums_with_the_same_draws(subject, monkeypatch):
    """Captum draws noise for all copies at once, then the points between."""
    copies, levels = 4, [0.3, 0.1, 0.2][: subject.image.shape[1]]
    shape = tuple(subject.image.shape[2:])
    noise = [
        np.stack([level * draw_noise(5, n, c, shape) for c, level in enumerate(levels)])
        for n in range(copies)
    ]
    points = [np.random.default_rng([5, n]).uniform() for n in range(copies)]
    monkeypatch.setattr(torch, "normal", lambda mean, std: torch.from_numpy(np.stack(noise)))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array(points))
    theirs = captum.attr.GradientShap(subject.score())
    wanted = theirs.attribute(
        subject.image, torch.zeros_like(subject.image), n_samples=copies, stdevs=1.0
    )[0]
    found, attribution = subject.explain(
        "gradient_shap", seed=5, samples=copies, context={"noise_levels": tuple(levels)}
    )
    assert literal.worst(found, wanted.detach()) < TOLERANCE
    assert attribution.facts["samples"] == copies
    assert attribution.standard_error.max() > 0


# ------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("baseline", ["zero", "healthy", "blurred"])
def test_integrated_gradients_sum_to_what_the_score_gains(baseline):
    subject = solid()
    found, attribution = subject.explain("integrated_gradients", steps=64, baseline=baseline)
    facts = attribution.facts
    gain = facts["mean_score"] - facts["score_of_baseline"]
    assert float(found.sum()) == pytest.approx(gain, abs=0.02 * abs(gain))
    assert facts["mean_score"] == pytest.approx(float(subject.score()(subject.image).detach()))
    assert facts["completeness_gap"] == pytest.approx(abs(float(found.sum()) - gain), abs=1e-4)


def test_too_few_steps_are_told():
    with pytest.warns(SegxaiWarning, match="integrated gradients sum to .* more than steps=1"):
        solid().explain("integrated_gradients", steps=1)


def test_gradient_shap_is_repeated_by_its_seed_alone():
    subject, levels = flat(), {"noise_levels": (0.1, 0.1)}
    maps = [
        subject.explain("gradient_shap", samples=3, seed=seed, context=levels)[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(maps[0], maps[1])
    assert literal.worst(maps[0], maps[2]) > 0.01


@pytest.mark.parametrize(
    "name", ["integrated_gradients", "input_x_gradient", "gradient_shap", "guided_backprop"]
)
@pytest.mark.filterwarnings("ignore:integrated gradients sum to")
def test_the_model_is_left_as_it_came_and_all_work_is_counted(name):
    subject, ticks = flat(), []
    network = subject.predictor.network.train()
    before, state = fingerprint(network), torch.get_rng_state()
    more = {"steps": 4} if name == "integrated_gradients" else {}
    subject.explain(name, samples=3, context={"tick": ticks.append}, **more)
    assert_same(network, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(ticks) == pytest.approx(1)


def test_guided_backpropagation_names_other_activations():
    with pytest.warns(SegxaiWarning, match="plain gradient at LeakyReLU"):
        flat(net2d()).explain("guided_backprop")


# -------------------------------------------------------------------------------------- baselines


def values_of(subject, case=None, **own):
    return subject.explain("integrated_gradients", steps=1, case=case, **own)[1].facts


@pytest.mark.filterwarnings("ignore:integrated gradients sum to")
def test_baselines_are_kept_with_the_map():
    subject = flat()
    foreground = np.zeros((20, 14), bool)
    foreground[1:9, 2:12] = True
    case = replace(subject.case, foreground=foreground, black=(-1.5, 2.0))
    assert values_of(subject, case)["baseline_values"] == [0, 0]
    assert values_of(subject, case, baseline="black")["baseline_values"] == [-1.5, 2.0]
    healthy = foreground & ~subject.instance.mask((20, 14))
    wanted = [float(channel[healthy].mean()) for channel in subject.image[0].numpy()]
    found = values_of(subject, case, baseline="healthy")["baseline_values"]
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.filterwarnings("ignore:integrated gradients sum to")
def test_a_baseline_is_what_the_image_is_compared_with():
    """One step of Gauss-Legendre is the gradient in the middle, times the difference."""
    subject = solid()
    spacing = np.diag([2.0, 1.0, 1.0, 1.0])
    case = replace(subject.case, grid=replace(subject.case.grid, affine=spacing))
    found, _ = subject.explain(
        "integrated_gradients", case=case, steps=1, baseline="blurred", blur=2.0
    )
    from scipy.ndimage import gaussian_filter

    blurred = [gaussian_filter(one, (1, 2, 2)) for one in subject.image[0].numpy()]
    other = torch.from_numpy(np.stack(blurred))[None]
    middle = ((subject.image + other) / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(subject.score()(middle).sum(), middle)
    assert literal.worst(found, ((subject.image - other) * gradient)[0].detach()) < TOLERANCE


@pytest.mark.filterwarnings("ignore:integrated gradients sum to")
def test_instances_on_the_grid_of_the_picture_are_found_in_the_networks_image():
    subject = read_out()
    grid = replace(subject.case.grid, affine=np.diag([0.5, 0.5, 1.0]))
    own = replace(subject.case, grid=grid)
    source = replace(grid, shape=(8, 10), affine=np.diag([1.0, 1.0, 1.0]))
    case = replace(own, source_grid=source, domains_on_source=True)
    found = values_of(subject, case, baseline="healthy")["baseline_values"]
    outside = np.ones((16, 20), bool)
    outside[5:12, 7:14] = False  # voxels 3 to 5 and 4 to 6 of the picture, with their nearest
    wanted = [float(one[outside].mean()) for one in subject.image[0].numpy()]
    assert found == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"baseline": "black"}, "baseline=black: what 0 in the files becomes is not known"),
        ({"baseline": "blurred", "blur": 0.0}, "blur=0: give a length above 0"),
        ({"steps": 0}, "steps=0: give 1 or more"),
    ],
)
def test_what_makes_no_sense_is_one_line(own, words):
    with pytest.raises(SegxaiError, match=words):
        flat().explain("integrated_gradients", **own)


def test_no_healthy_voxel_is_told():
    subject = flat()
    everywhere = Instance.from_mask(np.ones((20, 14), bool))
    with pytest.raises(SegxaiError, match="instances cover all of the foreground"):
        replace(subject, instance=everywhere).explain("integrated_gradients", baseline="healthy")
