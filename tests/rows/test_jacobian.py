"""Rows are exact: against autograd of each voxel, on the paper's U-Net and on a 2D network."""

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from segxai.rows import jacobian
from segxai.rows.engines import find_engine, make_engine
from segxai.rows.mean_row import logits_at, mean_row
from segxai.rows.scores import SCORES
from segxai.rows.window_pass import dense_rows, forward_pass
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.networks import block, image_of, net2d, paper_unet, small_unet

TOLERANCE = 1e-5
EXACT = ("windowed", "dense")


class InPlace(nn.Module):
    """Its backward pass writes into the cotangent that it gets."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad.clone().mul_(2)

    def forward(self, x):
        return self.Scale.apply(x)


def full_rows(predictor, image, instance, engine="windowed", batch=16, **options):
    """All rows on the whole grid, as one tensor."""
    options["engine"] = make_engine(engine, batch)
    local, box = predictor.crop_to(instance.voxels)
    shape = image.shape[1:]
    found = []
    with frozen(predictor.network):
        for batch in jacobian.rows(
            local, image[box.index], box.local(instance.voxels), class_index=1, **options
        ):
            inner = torch.zeros(len(batch.values), shape[0], *local.layout.shape)
            inner[batch.box.index] = batch.values
            full = torch.zeros(len(batch.values), *shape)
            full[box.index] = inner
            found.append(full)
    return torch.cat(found)


def sorted_rows(rows):
    """Rows as a set: the engine may take the voxels in any order."""
    flat = rows.flatten(1)
    return flat[np.lexsort(flat[:, flat.abs().amax(dim=0).topk(8).indices].numpy().T)]


CASES = {
    "paper": (paper_unet, (2, 32, 32, 32), whole_image((32, 32, 32)), (15, 14, 17), (2, 3, 2)),
    "windows": (
        small_unet,
        (2, 40, 36, 14),
        sliding_window((40, 36, 14), (16, 16, 16)),
        (13, 11, 5),
        (3, 3, 2),
    ),
    "2d": (net2d, (3, 24, 20), whole_image((24, 20)), (9, 8), (4, 3)),
    "2d windows": (net2d, (3, 40, 20), sliding_window((40, 20), (16, 16)), (11, 8), (6, 5)),
}


@pytest.fixture(params=CASES, scope="module")
def setting(request):
    network, shape, layout, start, size = CASES[request.param]
    predictor = Predictor(network(), layout)
    image, instance = image_of(shape), block(shape[1:], start, size)
    return predictor, image, instance, literal.rows(predictor, image, instance.voxels)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("batch", [1, 5, 100])
def test_rows_equal_autograd_of_each_voxel(setting, engine, batch):
    predictor, image, instance, wanted = setting
    found = full_rows(predictor, image, instance, engine=engine, batch=batch)
    assert found.shape == wanted.shape
    assert literal.worst(sorted_rows(found), sorted_rows(wanted)) < TOLERANCE


def scores_of(predictor, score):
    """The score of class 1 at every voxel of the blended logits, as a map of one class."""

    def scored(image):
        logits = predictor(image)
        flat = SCORES[score](logits[0].flatten(1).T, 1)
        return flat.reshape(1, 1, *logits.shape[2:])

    return scored


@pytest.mark.parametrize("score", SCORES)
def test_the_mean_row_equals_the_mean_of_the_rows(setting, score):
    predictor, image, instance, _ = setting
    wanted = literal.mean(
        literal.rows(scores_of(predictor, score), image, instance.voxels, class_index=0)
    )
    local, box = predictor.crop_to(instance.voxels)
    with frozen(predictor.network):
        found = mean_row(
            local, image[box.index], box.local(instance.voxels), class_index=1, score=score
        )
    full = torch.zeros_like(image[0])
    full[box.index] = found
    assert literal.worst(full, wanted) < TOLERANCE


def test_dense_rows_can_be_computed_at_once(setting):
    """As on a GPU, where a batch pays."""
    predictor, image, instance, _ = setting
    with frozen(predictor.network):
        window = max(predictor.layout.windows, key=lambda w: w.contains(instance.voxels).sum())
        voxels = instance.voxels[window.contains(instance.voxels)]
        assert len(voxels) > 3
        one = forward_pass(predictor, image, window)
        weights = image_of((len(voxels), one.logits.shape[1]))[0]
        found = dense_rows(one, voxels, weights)
        for k, row in enumerate(found.values):
            wanted = dense_rows(one, voxels[k : k + 1], weights[k : k + 1])
            assert literal.worst(row, wanted.values[0]) < TOLERANCE


@pytest.mark.parametrize(
    ("network", "engine"),
    [(small_unet, "windowed"), (lambda: nn.InstanceNorm3d(2), "dense"), (InPlace, "dense")],
)
def test_the_engine_suits_the_network(network, engine):
    shape = (16, 16, 16)
    predictor = Predictor(network(), whole_image(shape))
    with frozen(predictor.network):
        found = find_engine(predictor, image_of((2, *shape)), np.array([[7, 8, 9]]))
    assert found.name == engine


def test_a_network_without_a_box_has_the_same_rows_in_both_engines():
    shape = (12, 10)
    network = literal.seeded(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 3, padding=1)
        )
    )
    predictor, image = Predictor(network, whole_image(shape)), image_of((2, *shape))
    instance = block(shape, (4, 5), (2, 2))
    wanted = literal.rows(network, image, instance.voxels)
    for engine in EXACT:
        found = full_rows(predictor, image, instance, engine=engine, batch=3)
        assert literal.worst(sorted_rows(found), sorted_rows(wanted)) < TOLERANCE


def test_an_instance_at_the_border_and_in_a_padded_image():
    """Boxes are cut at the border of the grid, and the padding belongs to no row."""
    network, shape = small_unet(), (10, 22, 9)
    predictor = Predictor(network, sliding_window(shape, (16, 16, 16)))
    image, instance = image_of((2, *shape)), block(shape, (0, 5, 6), (2, 2, 3))
    wanted = literal.rows(predictor, image, instance.voxels)
    for engine in EXACT:
        found = full_rows(predictor, image, instance, engine=engine)
        assert literal.worst(sorted_rows(found), sorted_rows(wanted)) < TOLERANCE


@pytest.mark.parametrize("score", ["margin", "probability"])
def test_rows_of_other_scores_are_derivatives_of_the_blended_logits(setting, score):
    predictor, image, instance, _ = setting
    wanted = literal.rows(scores_of(predictor, score), image, instance.voxels, class_index=0)
    found = full_rows(predictor, image, instance, score=score, engine="windowed", batch=3)
    assert literal.worst(sorted_rows(found), sorted_rows(wanted)) < TOLERANCE


def test_rows_are_gradients_of_the_prediction_that_monai_makes():
    """The prediction explained is the prediction made."""
    network, shape = small_unet(), (40, 36, 14)
    image, instance = image_of((2, *shape)), block(shape, (13, 11, 5), (3, 3, 2))

    def predicted(leaf):
        return sliding_window_inference(
            leaf, (16, 16, 16), 2, network, overlap=0.25, mode="gaussian"
        )

    wanted = literal.rows(predicted, image, instance.voxels)
    predictor = Predictor(network, sliding_window(shape, (16, 16, 16), 0.25))
    found = full_rows(predictor, image, instance)
    assert literal.worst(sorted_rows(found), sorted_rows(wanted)) < TOLERANCE


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_row_of_a_convolution_is_its_flipped_kernel(dimensions):
    convolution = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dimensions - 1](1, 2, 3, padding=1)
    network = literal.seeded(convolution)
    shape, center = (9,) * dimensions, (4,) * dimensions
    predictor, instance = (
        Predictor(network, whole_image(shape)),
        block(shape, center, (1,) * dimensions),
    )
    found = full_rows(predictor, image_of((1, *shape)), instance)
    wanted = torch.zeros(1, *shape)
    # y[v'] = sum_u k[u] x[v' + u - 1], so dy[v']/dx[v] = k[v - v' + 1]: the kernel around v'.
    wanted[(0, *(slice(3, 6),) * dimensions)] = network.weight[1, 0].detach()
    assert literal.worst(found[0], wanted) < 1e-6


class ChannelsLast(nn.Module):
    """Logits whose memory lies in another order than their axes."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).contiguous(memory_format=torch.channels_last_3d)


def test_the_order_of_memory_changes_no_row():
    shape = (16, 16, 16)
    image, instance = image_of((2, *shape)), block(shape, (7, 6, 8), (2, 2, 1))
    plain = Predictor(small_unet(), whole_image(shape))
    last = Predictor(ChannelsLast(small_unet()), whole_image(shape))
    for engine in EXACT:
        wanted = full_rows(plain, image, instance, engine=engine)
        found = full_rows(last, image, instance, engine=engine)
        assert literal.worst(found, wanted) < TOLERANCE
    with frozen(plain.network), frozen(last.network):
        wanted, found = (
            mean_row(predictor, image, instance.voxels, class_index=1)
            for predictor in (plain, last)
        )
    assert literal.worst(found, wanted) < TOLERANCE


def test_logits_at_are_the_blended_logits(setting):
    predictor, image, instance, _ = setting
    with torch.no_grad():
        wanted = predictor(image)[0][:, *instance.voxels.T].T
    assert literal.worst(logits_at(predictor, image, instance.voxels), wanted) < 1e-6
