"""Engines: which of them suits a network, and how much it takes on at once."""

import numpy as np
import pytest
from torch import nn

from segxai.errors import SegxaiError
from segxai.rows import engines
from segxai.rows.engines import find_engine, make_engine
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests.networks import WritesInPlace, image_of, small_unet


@pytest.mark.parametrize(
    ("network", "engine"),
    [(small_unet, "windowed"), (lambda: nn.InstanceNorm3d(2), "dense"), (WritesInPlace, "dense")],
)
def test_the_engine_suits_the_network(network, engine):
    shape = (16, 16, 16)
    predictor = Predictor(network(), whole_image(shape))
    with frozen(predictor.network):
        found = find_engine(predictor, image_of((2, *shape)), np.array([[7, 8, 9]]))
    assert found.name == engine


def test_the_batch_keeps_its_widest_tensor_within_the_budget(small, monkeypatch):
    predictor, image, voxels = small
    with frozen(predictor.network):
        free = find_engine(predictor, image, voxels)
        monkeypatch.setattr(engines, "BATCH_BYTES", 2**16)
        tight = find_engine(predictor, image, voxels)
        asked = find_engine(predictor, image, voxels, batch=7)
    assert (free.name, free.batch) == ("windowed", engines.MOST_ROWS)
    assert 1 <= tight.batch < free.batch
    assert asked.batch == 7


def test_forced_engines_are_taken_as_asked(small):
    predictor, image, voxels = small
    with frozen(predictor.network):
        assert find_engine(predictor, image, voxels, engine="dense").name == "dense"
        with pytest.raises(SegxaiError, match="'fast'; known: auto, dense, lowrank, windowed"):
            find_engine(predictor, image, voxels, engine="fast")
    with pytest.raises(SegxaiError, match="unknown engine 'auto'"):
        make_engine("auto")


@pytest.mark.parametrize("name", ["dense", "windowed", "lowrank"])
def test_an_engine_takes_on_as_many_rows_as_asked(name):
    assert type(make_engine(name)).__name__.lower() == name
    assert make_engine(name, 3).batch == 3
    assert make_engine(name) == make_engine(name, make_engine(name).batch)
