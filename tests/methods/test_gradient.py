"""InstanceGradient: a Captum attribution that equals the literal loop and touches nothing."""

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution, IntegratedGradients, NoiseTunnel
from torch.utils._python_dispatch import TorchDispatchMode

import segxai
from segxai.errors import SegxaiError
from segxai.methods.gradient import InstanceGradient, gradient
from segxai.methods.precision import COMPARED
from segxai.plugins.registry import load_aggregator
from segxai.rows.instance_score import InstanceScore
from segxai.segment.inference_mode import exact_arithmetic
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.asked import Asked
from tests.networks import block, image_of, net2d, paper_unet, small_unet

TOLERANCE = 1e-5

CASES = {
    "paper": (paper_unet, (2, 32, 32, 32), (16, 12, 15), (3, 2, 2)),
    "2d": (net2d, (3, 24, 20), (9, 8), (4, 3)),
}


@pytest.fixture(params=CASES, scope="module")
def setting(request):
    network, shape, start, size = CASES[request.param]
    model = network()
    image, instance = image_of(shape), block(shape[1:], start, size)
    return model, image, instance, literal.rows(model, image, instance.voxels)


def test_mean_equals_the_literal_loop(setting):
    model, image, instance, rows = setting
    found = InstanceGradient(model, "mean").attribute(image, instance=instance)
    assert literal.worst(found[0], literal.mean(rows)) < TOLERANCE


@pytest.mark.parametrize("options", [{"engine": "dense"}, {"batch": 7}, {"batch": 1}])
def test_signed_max_equals_the_literal_loop_but_for_ties(setting, options):
    model, image, instance, rows = setting
    found = InstanceGradient(model, **options).attribute(image, instance=instance)[0]
    wanted, free = literal.signed_max(rows), literal.ties(rows)
    assert free.float().mean() < 0.001
    assert literal.worst(found * ~free, wanted * ~free) < TOLERANCE
    assert literal.worst(found.abs(), wanted.abs()) < TOLERANCE


def test_it_is_a_gradient_attribution_for_batches_and_tuples(setting):
    model, image, instance, _ = setting
    method = InstanceGradient(model, "mean")
    assert isinstance(method, GradientAttribution)
    other = image_of(tuple(image.shape[1:]), seed=5)
    one, two = (method.attribute(x, instance=instance) for x in (image, other))
    both = method.attribute(torch.cat([image, other]), instance=instance)
    assert torch.equal(both, torch.cat([one, two]))
    parts = method.attribute((image[:, :1], image[:, 1:]), instance=instance)
    assert torch.equal(torch.cat(parts, dim=1), one)


def test_a_bare_mask_is_an_instance_of_class_1(setting):
    model, image, instance, _ = setting
    method = InstanceGradient(model, "mean")
    mask, wanted = instance.mask(tuple(image.shape[2:])), method.attribute(image, instance)
    for bare in (mask, torch.from_numpy(mask)):
        assert torch.equal(method.attribute(image, instance=bare), wanted)
        assert torch.equal(InstanceScore(model, bare)(image), InstanceScore(model, instance)(image))
    with pytest.raises(ValueError, match="boolean.* not int64"):
        method.attribute(image, instance=mask.astype(int))
    with pytest.raises(ValueError, match="with 0 non-zero values"):
        method.attribute(image, instance=mask & False)


def test_a_mask_of_another_grid_is_refused():
    model, image = net2d(), image_of((3, 24, 20))
    smaller = block((12, 10), (9, 8), (3, 2))
    windows = Predictor(model, sliding_window((24, 20), (16, 16), 0.25))
    for method in (InstanceGradient(model), InstanceGradient(windows)):
        with pytest.raises(
            SegxaiError, match="mask has 12 x 10 voxels, but the model's output has"
        ):
            method.attribute(image, instance=smaller.mask((12, 10)))
    with pytest.raises(SegxaiError, match="on a grid of at least 12 x 10, but .* 10 x 9"):
        InstanceGradient(model).attribute(image[..., :10, :9], instance=smaller)


def test_only_the_windows_that_cover_the_instance_are_computed():
    shape, runs = (40, 36), []
    network = net2d()
    network.register_forward_hook(lambda *_: runs.append(1))
    predictor = Predictor(network, sliding_window(shape, (16, 16)))
    instance = block(shape, (1, 1), (2, 2))
    InstanceGradient(predictor, "mean").attribute(image_of((3, *shape)), instance=instance)
    assert len(predictor.layout.windows) == 9
    assert len(runs) == 1


@pytest.mark.parametrize("aggregator", ["mean", "signed_max"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_came(aggregator, fails):
    model = net2d().train()
    model.norm.eval()
    model.last.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    # An index beyond the classes fails in the middle of the work, after the forward pass.
    instance = block((24, 20), (9, 8), (2, 2), class_index=7 if fails else 1)
    method = InstanceGradient(model, aggregator)
    if fails:
        with pytest.raises(SegxaiError, match="no class 7"):
            method.attribute(image_of((3, 24, 20)), instance=instance)
    else:
        method.attribute(image_of((3, 24, 20)), instance=instance)
    assert [module.training for module in model.modules()] == modes
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["last.weight"]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_ticks_add_up_to_the_whole():
    done = []
    instance = block((24, 20), (9, 8), (3, 3))
    for aggregator in ("mean", "signed_max"):
        InstanceGradient(net2d(), aggregator, batch=4, tick=done.append).attribute(
            image_of((3, 24, 20)), instance=instance
        )
        assert sum(done) == pytest.approx(1)
        done.clear()


def test_the_method_crops_to_the_support_of_the_map():
    model, shape = small_unet(), (32, 32, 32)
    image, instance = image_of((2, *shape)), block(shape, (16, 16, 16), (2, 2, 2), label=3)
    settings = Asked(aggregator=load_aggregator("signed_max"))
    found = gradient(Predictor(model, whole_image(shape)), image, instance, *settings)
    wanted = InstanceGradient(model).attribute(image, instance=instance)[0].numpy()
    assert found.label == 3
    assert found.facts == {"rows": 8, "samples": 1, "engine": "windowed"}
    assert found.values.size < wanted.size
    np.testing.assert_array_equal(found.on_grid(shape), wanted)


class TensorCores(TorchDispatchMode):
    """Convolutions as a GPU computes them where TF32 is allowed: of operands with 10 bits."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operands = {"convolution": 2, "convolution_backward": 3}.get(
            func.overloadpacket.__name__, 0
        )
        if torch.backends.cudnn.allow_tf32 and operands:
            args = (*map(self.rounded, args[:operands]), *args[operands:])
        return func(*args, **(kwargs or {}))

    @staticmethod
    def rounded(values):
        bits = values.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def errors_in_tf32(network, image, instance):
    """The error of each row, relative to its peak: by autograd, one voxel at a time."""
    wanted = literal.rows(network, image, instance.voxels)
    with TensorCores(), exact_arithmetic(tf32=True):
        found = literal.rows(network, image, instance.voxels)
    return ((found - wanted).abs().flatten(1).amax(1) / wanted.abs().flatten(1).amax(1)).numpy()


def said_of_tf32(network, image, instance):
    method = InstanceGradient(network, "mean", precision="tf32")
    with TensorCores():
        method.attribute(image, instance)
    return method.facts()


def test_of_few_rows_the_error_of_tf32_is_the_largest_of_all():
    shape = (24, 20)
    network, image = net2d(), image_of((3, *shape))
    instance = block(shape, (9, 8), (5, 5))
    facts = said_of_tf32(network, image, instance)
    worst = errors_in_tf32(network, image, instance).max()
    assert facts["precision"] == "tf32"
    assert facts["precision_rows"] == 25
    assert worst > 1e-4
    assert facts["precision_error"] == pytest.approx(worst, rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_of_many_rows_nine_in_ten_are_within_the_error_of_tf32(seed):
    shape = (24, 20)
    network, image = literal.seeded(literal.Net2d(), seed), image_of((3, *shape))
    instance = block(shape, (4, 3), (14, 14))
    facts = said_of_tf32(network, image, instance)
    assert facts["precision_rows"] == COMPARED
    assert (errors_in_tf32(network, image, instance) <= facts["precision_error"]).mean() >= 0.9


def test_rows_that_are_0_everywhere_have_no_error_in_tf32():
    shape = (12, 12)
    network, image = net2d(), image_of((3, *shape))
    torch.nn.init.zeros_(network.last.weight)
    facts = said_of_tf32(network, image, block(shape, (4, 4), (3, 3)))
    assert facts["precision_error"] == 0
    assert "precision" not in InstanceGradient(network).facts()


def test_precisions_have_names():
    for name in ("half", "bfloat16"):
        refused = f"unknown precision {name!r}; known: float32, tf32"
        with pytest.raises(SegxaiError, match=refused):
            InstanceGradient(net2d(), precision=name)
        with pytest.raises(SegxaiError, match=refused):
            segxai.explain(net2d(), image_of((3, 8, 8))[0], np.ones((8, 8), bool), precision=name)


def test_any_captum_attribution_can_be_pointed_at_an_instance(setting):
    model, image, instance, _ = setting
    score = InstanceScore(model, instance)
    with torch.no_grad():
        logits = model(image)[0, 1][tuple(instance.voxels.T)]
        assert torch.allclose(score(image), logits.mean()[None])
        clean, blank = score(image), score(torch.zeros_like(image))
    path = IntegratedGradients(score)
    found, delta = path.attribute(image, n_steps=200, return_convergence_delta=True)
    assert abs(delta.item()) < 0.02 * abs((clean - blank).item())
    assert found.shape == image.shape


def test_a_noise_tunnel_of_captum_takes_it(setting):
    model, image, instance, _ = setting
    tunnel = NoiseTunnel(InstanceGradient(model, "mean"))
    parts = (image[:, :1], image[:, 1:])
    found = tunnel.attribute(
        parts, nt_samples=2, nt_samples_batch_size=1, stdevs=(0.1, 0.2), instance=instance
    )
    assert [one.shape for one in found] == [one.shape for one in parts]
