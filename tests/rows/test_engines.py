"""Engines: how much they take on at once, what happens without memory, and lower precision."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

import segxai
from segxai.errors import SegxaiError
from segxai.methods.gradient import InstanceGradient
from segxai.rows import engines
from segxai.rows.engines import Windowed, find_engine, make_engine
from segxai.rows.jacobian import rows
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import sliding_window, whole_image
from tests import literal
from tests.networks import block, image_of, paper_unet, small_unet

SHAPE = (24, 24, 24)


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


@pytest.fixture(scope="module")
def setting():
    predictor, image = Predictor(small_unet(), whole_image(SHAPE)), image_of((2, *SHAPE))
    return predictor, image, block(SHAPE, (9, 10, 8), (4, 3, 2)).voxels


def found_by(setting, engine, **options):
    predictor, image, voxels = setting
    found = []
    with frozen(predictor.network):
        for batch in rows(predictor, image, voxels, class_index=1, engine=engine, **options):
            for values in batch.values:
                found.append(torch.zeros(image.shape[1:]))
                found[-1][batch.box.index] = values
    return torch.stack(found)


def by_size(found):
    """Rows in an order that does not depend on the batches."""
    return found[found.flatten(1).double().abs().sum(1).argsort()]


def test_a_batch_that_does_not_fit_is_halved_and_no_row_is_lost(setting):
    wanted = found_by(setting, Windowed())
    cramped = Cramped(most=3)
    found = found_by(setting, cramped)
    assert len(found) == len(wanted)
    assert literal.worst(by_size(found), by_size(wanted)) < 1e-6
    assert max(cramped.asked) > 3
    failed = [n for n in cramped.asked if n > 3]
    assert len(failed) <= 3  # what did not fit once is not tried again


def test_rows_that_were_done_are_left_out(setting):
    wanted = found_by(setting, Windowed(batch=6))  # 24 rows
    assert torch.equal(found_by(setting, Windowed(batch=6), done=6), wanted[6:])
    assert len(found_by(setting, Windowed(batch=6), done=9)) == 15


def test_a_row_that_does_not_fit_alone_is_an_error(setting):
    with pytest.raises(SegxaiError, match="not enough memory for a single row"):
        found_by(setting, Cramped(most=0))


def test_other_errors_are_not_hidden(setting):
    with pytest.raises(RuntimeError, match="size mismatch"):
        found_by(setting, Cramped(most=3, message="size mismatch"))


def test_the_batch_keeps_its_widest_tensor_within_the_budget(setting, monkeypatch):
    predictor, image, voxels = setting
    with frozen(predictor.network):
        free = find_engine(predictor, image, voxels)
        monkeypatch.setattr(engines, "BATCH_BYTES", 2**16)
        tight = find_engine(predictor, image, voxels)
        asked = find_engine(predictor, image, voxels, batch=7)
    assert (free.name, free.batch) == ("windowed", engines.MOST_ROWS)
    assert 1 <= tight.batch < free.batch
    assert asked.batch == 7


def test_forced_engines_are_taken_as_asked(setting):
    predictor, image, voxels = setting
    with frozen(predictor.network):
        assert find_engine(predictor, image, voxels, engine="dense").name == "dense"
        with pytest.raises(
            SegxaiError, match="unknown engine 'fast'; known: auto, dense, lowrank, windowed"
        ):
            find_engine(predictor, image, voxels, engine="fast")
    with pytest.raises(SegxaiError, match="unknown engine 'auto'"):
        make_engine("auto")


class Counting(nn.Module):
    """Counts the forward passes of a network."""

    def __init__(self, network):
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, x):
        self.passes += 1
        return self.network(x)


def test_each_window_runs_once_and_is_forgotten_after_its_last_row(monkeypatch):
    """A long instance holds the graphs of few windows at a time."""
    shape = (20, 140)
    network = Counting(literal.seeded(literal.Net2d()))
    predictor = Predictor(network, sliding_window(shape, (20, 20), 0.25))
    voxels = block(shape, (9, 3), (2, 130)).voxels
    held, most = set(), 0
    windows = segxai.rows.jacobian._Windows
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
    found = found_by((predictor, image_of((3, *shape)), voxels), Windowed())
    assert len(found) == len(voxels)
    assert network.passes == len(predictor.layout.windows) > 6
    assert most <= 4
    assert not held


def test_lower_precision_says_how_far_it_is_off(setting):
    predictor, image, voxels = setting
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[tuple(voxels.T)] = True
    exact, lower = InstanceGradient(predictor), InstanceGradient(predictor, precision="bfloat16")
    wanted, found = exact.attribute(image, mask), lower.attribute(image, mask)
    assert found.dtype == torch.float32
    facts = lower.facts()
    assert facts["precision"] == "bfloat16"
    assert 1e-4 < facts["precision_error"] < 0.1
    error = float((found.abs() - wanted.abs()).abs().max() / wanted.abs().max())
    assert 1e-4 < error < 5 * facts["precision_error"]
    assert "precision" not in exact.facts()


@pytest.mark.parametrize("engine", ["windowed", "dense"])
def test_lower_precision_in_every_engine(setting, engine):
    predictor, image, voxels = setting
    wanted = found_by(setting, make_engine(engine))
    found = found_by((predictor.at("bfloat16"), image, voxels), make_engine(engine))
    assert 1e-4 < literal.worst(found, wanted) < 0.1


def test_precisions_have_names(setting):
    with pytest.raises(
        SegxaiError, match="unknown precision 'half'; known: bfloat16, float32, tf32"
    ):
        setting[0].at("half")
    mask = np.ones((8, 8), dtype=bool)
    with pytest.raises(SegxaiError, match="unknown precision 'half'"):
        segxai.explain(literal.Net2d(), image_of((3, 8, 8))[0], mask, precision="half")


def test_the_adjoint_of_a_strided_convolution_by_phases():
    """The form for few channels is the transposed convolution."""
    from segxai.rows.rules.convolution import _by_phases

    generator = torch.Generator().manual_seed(0)
    for kernel, stride in [((3, 3), (2, 2)), ((5, 2), (2, 3)), ((1, 4), (2, 1)), ((7, 3), (4, 2))]:
        rows_, weight = torch.randn(2, 5, 4, 6, generator=generator), torch.randn(5, 3, *kernel)
        wanted = nn.functional.conv_transpose2d(rows_, weight, stride=stride)
        assert literal.worst(_by_phases(rows_, weight, stride), wanted) < 1e-6


def test_the_paper_network_keeps_to_its_receptive_field():
    """79 voxels an axis, 63 at multiples of the total stride (measured by others, too)."""
    predictor, image = Predictor(paper_unet(), whole_image((96,) * 3)), image_of((2, *(96,) * 3))
    sizes = {}
    with frozen(predictor.network):
        for voxel in ((43, 51, 38), (48, 48, 48)):
            (batch,) = rows(predictor, image, np.array([voxel]), class_index=1)
            sizes[voxel] = batch.values.shape[2:]
    assert sizes[43, 51, 38] == (79, 79, 79)
    assert sizes[48, 48, 48] == (63, 63, 63)
