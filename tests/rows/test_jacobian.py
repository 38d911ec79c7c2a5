"""Rows are exact: against autograd of each voxel, on the paper's U-Net and on a 2D network."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from segxai.errors import SegxaiError
from segxai.rows import jacobian
from segxai.rows.engines import Windowed, make_engine
from segxai.rows.mean_row import mean_row
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.networks import Counting, block, image_of, net2d, paper_unet, small_unet
from tests.rows.whole_grid import in_order, rows_on_grid, scores_of

TOLERANCE = 1e-5
EXACT = ("windowed", "dense")


def full_rows(predictor, image, instance, engine="windowed", batch=16, **options):
    """All rows on the whole grid, computed on the crop around the instance."""
    local, box = predictor.crop_to(instance.voxels)
    inner = box.local(instance.voxels)
    found = rows_on_grid(local, image[box.index], inner, make_engine(engine, batch), **options)
    full = torch.zeros(len(found), *image.shape[1:])
    full[box.index] = found
    return full


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("batch", [1, 5, 100])
def test_rows_equal_autograd_of_each_voxel(known_rows, engine, batch):
    predictor, image, instance, wanted = known_rows
    found = full_rows(predictor, image, instance, engine=engine, batch=batch)
    assert found.shape == wanted.shape
    assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


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
        assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


def test_an_instance_at_the_border_and_in_a_padded_image():
    """Boxes are cut at the border of the grid, and the padding belongs to no row."""
    network, shape = small_unet(), (10, 22, 9)
    predictor = Predictor(network, sliding_window(shape, (16, 16, 16)))
    image, instance = image_of((2, *shape)), block(shape, (0, 5, 6), (2, 2, 3))
    wanted = literal.rows(predictor, image, instance.voxels)
    for engine in EXACT:
        found = full_rows(predictor, image, instance, engine=engine)
        assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


@pytest.mark.parametrize("score", ["margin", "probability"])
def test_rows_of_other_scores_are_derivatives_of_the_blended_logits(known_rows, score):
    predictor, image, instance, _ = known_rows
    wanted = literal.rows(scores_of(predictor, score), image, instance.voxels, class_index=0)
    found = full_rows(predictor, image, instance, score=score, engine="windowed", batch=3)
    assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


@pytest.mark.parametrize("done", [0, 5])
@pytest.mark.parametrize("score", ["logit", "margin"])
def test_rows_come_with_the_blended_logits_of_their_voxels(known_rows, score, done):
    predictor, image, instance, _ = known_rows
    local, box = predictor.crop_to(instance.voxels)
    given = (local, image[box.index], box.local(instance.voxels))
    order = [torch.from_numpy(members) for _, members in jacobian._together(local.layout, given[2])]
    options = {"class_index": 0, "score": score, "engine": Windowed(batch=3), "done": done}
    found = torch.cat([batch.logits for batch in jacobian.rows(*given, **options)])
    with torch.no_grad():
        wanted = predictor(image)[0][:, *instance.voxels.T].T[torch.cat(order)][done:]
    assert literal.worst(found, wanted) < TOLERANCE


@pytest.mark.parametrize(
    ("score", "own"),
    [("logit", lambda y: y), ("margin", lambda y: y), ("probability", torch.sigmoid)],
)
def test_independent_logits_are_not_compared_with_each_other(score, own):
    """Also behind a sliding window that is cut down to the instance."""
    shape = (40, 20)
    layout = sliding_window(shape, (16, 16))
    predictor = Predictor(net2d(), layout, activation="sigmoid")
    image, instance = image_of((3, *shape)), block(shape, (11, 8), (6, 5))
    wanted = literal.rows(lambda leaf: own(predictor(leaf)), image, instance.voxels)
    for engine in EXACT:
        found = full_rows(predictor, image, instance, engine=engine, score=score)
        assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


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
    assert literal.worst(in_order(found), in_order(wanted)) < TOLERANCE


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


@dataclass
class Cramped:
    """The windowed engine on a machine that holds few rows."""

    most: int
    message: str = "DefaultCPUAllocator: can't allocate memory"
    batch: int = 16
    asked: list[int] = field(default_factory=list)

    def rows_of(self, one, voxels, weights):
        inner = Windowed().rows_of(one, voxels, weights)

        def compute(members):
            self.asked.append(len(members))
            if len(members) > self.most:
                raise RuntimeError(self.message)
            return inner(members)

        return compute

    def facts(self):
        return {}


def test_a_batch_that_does_not_fit_is_halved_and_no_row_is_lost(small):
    wanted = rows_on_grid(*small, Windowed())
    cramped = Cramped(most=3)
    found = rows_on_grid(*small, cramped)
    assert len(found) == len(wanted)
    assert literal.worst(in_order(found), in_order(wanted)) < 1e-6
    assert max(cramped.asked) > 3
    failed = [n for n in cramped.asked if n > 3]
    assert len(failed) <= 3  # what did not fit once is not tried again


def test_a_row_that_does_not_fit_alone_is_an_error(small):
    with pytest.raises(SegxaiError, match="not enough memory"):
        rows_on_grid(*small, Cramped(most=0))


def test_other_errors_are_not_hidden(small):
    with pytest.raises(RuntimeError, match="size mismatch"):
        rows_on_grid(*small, Cramped(most=3, message="size mismatch"))


def test_rows_that_were_done_are_left_out(small):
    wanted = rows_on_grid(*small, Windowed(batch=6))  # 24 rows
    assert torch.equal(rows_on_grid(*small, Windowed(batch=6), done=6), wanted[6:])
    assert len(rows_on_grid(*small, Windowed(batch=6), done=9)) == 15


def test_rows_that_were_done_are_left_out_of_every_group_of_windows():
    shape = (40, 20)
    predictor, image = Predictor(net2d(), sliding_window(shape, (16, 16))), image_of((3, *shape))
    voxels = block(shape, (11, 8), (6, 5)).voxels
    groups = [len(members) for _, members in jacobian._together(predictor.layout, voxels)]
    assert len(groups) > 2
    wanted = rows_on_grid(predictor, image, voxels, Windowed(batch=4))
    for done in range(len(voxels)):
        found = rows_on_grid(predictor, image, voxels, Windowed(batch=4), done=done)
        assert len(found) == len(voxels) - done
        assert literal.worst(found, wanted[done:]) < TOLERANCE


def test_each_window_runs_once_and_is_forgotten_after_its_last_row(monkeypatch):
    """A long instance holds the graphs of few windows at a time."""
    shape = (20, 140)
    network = Counting(literal.seeded(literal.Net2d()))
    predictor = Predictor(network, sliding_window(shape, (20, 20), 0.25))
    voxels = block(shape, (9, 3), (2, 130)).voxels
    held, most = set(), 0
    windows = jacobian._Windows
    run, forget = windows._run, windows.forget

    def counted_run(self, number):
        nonlocal most
        held.add(number)
        most = max(most, len(held))
        return run(self, number)

    def counted_forget(self, numbers):
        numbers = list(numbers)
        held.difference_update(numbers)
        forget(self, numbers)

    monkeypatch.setattr(windows, "_run", counted_run)
    monkeypatch.setattr(windows, "forget", counted_forget)
    found = rows_on_grid(predictor, image_of((3, *shape)), voxels, Windowed())
    assert len(found) == len(voxels)
    assert network.passes == len(predictor.layout.windows) > 6
    assert most <= 4
    assert not held


def test_the_paper_network_keeps_to_its_receptive_field():
    """79 voxels an axis, 63 at multiples of the total stride (measured by others, too)."""
    predictor, image = Predictor(paper_unet(), whole_image((96,) * 3)), image_of((2, *(96,) * 3))
    sizes = {}
    with frozen(predictor.network):
        for voxel in ((43, 51, 38), (48, 48, 48)):
            (batch,) = jacobian.rows(predictor, image, np.array([voxel]), class_index=1)
            sizes[voxel] = batch.values.shape[2:]
    assert sizes[43, 51, 38] == (79, 79, 79)
    assert sizes[48, 48, 48] == (63, 63, 63)
